"""Answers of `npusim capacity` as a picture: speed over context, a line a budget, a panel a board and precision."""

from __future__ import annotations

import io
from typing import Any


def draw(rows: list[dict[str, Any]], kind: str) -> bytes:
    """A picture of a `kind`, such as "png". Hollow marks stand for what does not fit the board's memory."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((row["board"], row["precision"]) for row in rows))
    width = min(len(panels), 4)
    figure = Figure(figsize=(4 * width, 3 * -(-len(panels) // width)), layout="constrained")
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(-(-len(panels) // width), width, place)
        mine = [row for row in rows if (row["board"], row["precision"]) == panel and row["tokens_per_second"]]
        for colour, budget in enumerate(sorted({row["budget"] for row in mine}, key=lambda b: b or 1 << 30)):
            line = [row for row in mine if row["budget"] == budget]
            points = [row["context"] for row in line], [row["tokens_per_second"] for row in line]
            axes.plot(*points, color=f"C{colour}", label=f"{budget or 'all'} tokens", linewidth=1)
            for row, x, y in zip(line, *points, strict=True):
                axes.plot(x, y, "o", color=f"C{colour}", fillstyle="full" if row["fits"] else "none")
        axes.set_title(f"{panel[0]}, {panel[1]}", fontsize="medium")
        axes.set_xscale("log", base=2)
        axes.set_xlabel("context, tokens")
        axes.set_ylabel("tokens/s")
        axes.set_ylim(bottom=0)
        if place == 1:
            axes.legend(fontsize="small", title="budget")
    if not all(row["fits"] for row in rows):
        figure.supxlabel("hollow: does not fit the memory that the board's image reserves", fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format=kind)
    return picture.getvalue()

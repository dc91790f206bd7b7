"""The results of `npusim capacity` as a picture: speed over context, with a line for each budget and a panel for each
board and precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npusim.cli.reporters.picture import picture
from npusim.llm.capacity import Capacity


def draw(answers: Sequence[Capacity], kind: str) -> bytes:
    """A picture in the format `kind`, such as "png". A hollow mark: the model does not fit the board's memory."""
    return picture(lambda: _figure(answers), kind, dpi=100)


def _figure(answers: Sequence[Capacity]) -> Any:
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((a.setup.board.name, a.setup.precision) for a in answers))
    width = min(len(panels), 4)
    figure = Figure(figsize=(4 * width, 3 * -(-len(panels) // width)), layout="constrained")
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(-(-len(panels) // width), width, place)
        mine = [a for a in answers if (a.setup.board.name, a.setup.precision) == panel]
        for colour, budget in enumerate(sorted({a.setup.budget for a in mine if a.step}, key=lambda b: b or 1 << 30)):
            points = [
                (a.setup.context, a.step.tokens_per_second, a.fits) for a in mine if a.step and a.setup.budget == budget
            ]
            contexts, speeds, _ = zip(*points, strict=True)
            axes.plot(contexts, speeds, color=f"C{colour}", label=f"{budget or 'all'} tokens", linewidth=1)
            for context, speed, fits in points:
                axes.plot(context, speed, "o", color=f"C{colour}", fillstyle="full" if fits else "none")
        axes.set_title(f"{panel[0]}, {panel[1]}", fontsize="medium")
        axes.set_xscale("log", base=2)
        axes.set_xlabel("context, tokens")
        axes.set_ylabel("tokens/s")
        axes.set_ylim(bottom=0)
        if place == 1:
            axes.legend(fontsize="small", title="budget")
    if not all(answer.fits for answer in answers):
        figure.supxlabel("hollow: does not fit the memory that the board's image reserves", fontsize="small")
    return figure

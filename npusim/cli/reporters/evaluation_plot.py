"""Score against bytes a step, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npusim.cli.reporters.picture import picture
from npusim.evaluation.plan import FULL
from npusim.evaluation.row import Row

MARKERS = "os^vDP*XdphH8<>"


def draw(rows: Sequence[Row], kind: str) -> bytes:
    """A picture in the format `kind`, such as "png": a panel for each context, a line over the budgets for each policy.
    The dense run is one point at its own traffic."""
    return picture(lambda: _figure(rows), kind, dpi=110)


def _figure(rows: Sequence[Row]) -> Any:
    from matplotlib.figure import Figure

    contexts = list(dict.fromkeys(row.context for row in rows))
    figure = Figure(figsize=(4.6 * len(contexts) + 1.6, 4.8), layout="constrained")
    panels = figure.subplots(1, len(contexts), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(row.policy for row in rows))
    for panel, context in zip(panels, contexts, strict=True):
        _draw_panel(panel, [row for row in rows if row.context == context], names)
    budgets = ", ".join(f"{budget:,}" for budget in sorted({row.budget for row in rows}))
    sizes = " and ".join(str(size) for size in sorted({row.page_size for row in rows}))
    panels[0].set_ylabel(f"score: {rows[0].task}")
    figure.suptitle(
        f"{rows[0].model}, pages of {sizes}\nbudgets {budgets} tokens, left to right",
        fontsize="medium",
    )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def _draw_panel(panel: Any, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Draws the rows of one context on `panel`, which is matplotlib's Axes; `names` has all policies."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for number, name in enumerate(names):
        dense = name == FULL
        own = [row for row in rows if row.policy == name]
        own = own[:1] if dense else own
        panel.plot(
            [row.bytes_per_step / 1e6 for row in own],
            [row.score for row in own],
            marker=MARKERS[number % len(MARKERS)],
            markersize=9 if dense else 5,
            color="black" if dense else f"C{number % 10}",
            linestyle="-" if number < 10 else "--",
            linewidth=1.2,
            label=name,
            alpha=0.85,
        )
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_title(f"{rows[0].context:,} tokens, {rows[0].samples} samples", fontsize="medium")
    panel.set_xlabel("MB read in a decode step, all layers")
    panel.grid(True, which="both", alpha=0.25)

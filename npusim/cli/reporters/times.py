"""The comparison of two PMU files as tables."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.cli.printing import Grid, Printable
from npusim.profile.pmu_diff import Difference, PmuComparison

TOP = 20


def times_renderables(result: PmuComparison) -> list[Printable]:
    """Totals, kinds of command, and the layers that differ most."""
    parts: list[Printable] = [_table("totals (ticks, bytes)", result.totals, result.tolerance)]
    if result.kinds:
        parts.append(_table("ticks by kind of command", result.kinds, result.tolerance))
    worst = sorted(result.layers, key=lambda d: -abs(d.target - d.reference))
    parts.append(
        _table(
            f"ticks by layer, the {min(TOP, len(worst))} of {len(worst)} that differ most",
            worst[:TOP],
            result.tolerance,
        )
    )
    failures = result.failures
    verdict = (
        f"within {result.tolerance:.0%}"
        if not failures
        else f"{len(failures)} beyond {result.tolerance:.0%}: {_names(failures)}"
    )
    parts.append(f"span and layers of 1 % or more of the time: {verdict}")
    return parts


def _names(failures: Sequence[Difference]) -> str:
    return ", ".join(d.name for d in failures[:5]) + (", ..." if len(failures) > 5 else "")


def _table(title: str, rows: Sequence[Difference], tolerance: float) -> Grid:
    numbers = ("target", "reference", "difference", "share")
    table = Grid("", *numbers, title=title, right=numbers)
    for d in rows:
        share = "" if d.relative is None else f"{d.relative:+.1%}"
        style = "" if d.within(tolerance) else "red"
        table.add_row(d.name, f"{d.target:,}", f"{d.reference:,}", f"{d.target - d.reference:+,}", share, style=style)
    return table

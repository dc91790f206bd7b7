"""A profile's layers as a small HTML table, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.html import html_table
from npusim.profile.shares import TimeShare

TOP = 12


def layers_table(title: str, layers: Sequence[TimeShare]) -> str:
    """A table of the TOP layers that take the most time, below `title`."""
    slowest = sorted(layers, key=lambda layer: -layer.ps)[:TOP]
    columns = ("layer", "for tensor", "commands", "ms", "share", "TIU ms", "TDMA ms")
    rest = f"<p>the slowest {len(slowest)} of {len(layers)} layers</p>" if len(slowest) < len(layers) else ""
    return html_table(title, columns, map(_cells, slowest)) + rest


def _cells(layer: TimeShare) -> tuple[str, ...]:
    times = (f"{layer.ms:.3f}", f"{layer.share:.1%}", f"{layer.tiu_ms:.3f}", f"{layer.tdma_ms:.3f}")
    return (layer.name, layer.tensor, f"{layer.num_commands:,}", *times)

"""Compares two sets of PMU records, in total, by kind of command and by layer. One may be measured and the other
predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from npusim.profile.pmu import LayerRecord, PmuRecords, PmuType

MINOR_SHARE = 0.01
"""A layer that takes a smaller share of the reference's time does not decide the result."""


@dataclass(frozen=True)
class Difference:
    """One quantity in both sets, in TPU ticks or bytes."""

    name: str
    target: int
    reference: int

    @property
    def relative(self) -> float | None:
        """target / reference - 1; None if the reference is 0."""
        return self.target / self.reference - 1 if self.reference else None

    def within(self, tolerance: float) -> bool:
        return self.target == self.reference if self.relative is None else abs(self.relative) <= tolerance


@dataclass(frozen=True)
class PmuComparison:
    """The differences of two PMU files. It is true if no failure was found."""

    totals: tuple[Difference, ...]
    kinds: tuple[Difference, ...]
    """Ticks of each kind of command; empty for `_layer.csv` files."""
    layers: tuple[Difference, ...]
    """Ticks of each layer, TIU and TDMA together, in the reference's order."""
    tolerance: float

    @property
    def failures(self) -> tuple[Difference, ...]:
        """The span, and layers of at least MINOR_SHARE of all layers' time, that differ by more than the tolerance."""
        floor = MINOR_SHARE * sum(layer.reference for layer in self.layers)
        weighty = [layer for layer in self.layers if max(layer.reference, layer.target) >= floor]
        return tuple(d for d in (self.totals[0], *weighty) if not d.within(self.tolerance))

    def __bool__(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        def rows(parts: Sequence[Difference]) -> list[dict[str, Any]]:
            return [asdict(d) | {"relative": d.relative} for d in parts]

        return {
            "same": bool(self),
            "tolerance": self.tolerance,
            "totals": rows(self.totals),
            "kinds": rows(self.kinds),
            "layers": rows(self.layers),
        }


def compare_records(target: PmuRecords, reference: PmuRecords, tolerance: float) -> PmuComparison:
    """Compares two `_des.csv`. `tolerance` is a share, 0.1 for ten per cent."""
    both = (target, reference)
    dma = (PmuType.LOAD, PmuType.STORE, PmuType.MOVE)
    totals = (
        Difference("span", *(r.ticks for r in both)),
        Difference("TIU busy", *(r.busy(PmuType.TIU) for r in both)),
        Difference("TDMA busy", *(r.busy(*dma) for r in both)),
        Difference("bytes loaded", *(int(r.num_bytes[r.kind == PmuType.LOAD].sum()) for r in both)),
        Difference("bytes stored", *(int(r.num_bytes[r.kind == PmuType.STORE].sum()) for r in both)),
        Difference("records", *(len(r) for r in both)),
    )
    kinds = _differences(_sums(target, target.description), _sums(reference, reference.description))
    layers = _differences(_sums(target, target.layer.tolist()), _sums(reference, reference.layer.tolist()), "layer ")
    return PmuComparison(totals, kinds, layers, tolerance)


def compare_layers(target: Sequence[LayerRecord], reference: Sequence[LayerRecord], tolerance: float) -> PmuComparison:
    """Compares two `_layer.csv`."""
    both = (target, reference)
    totals = (
        Difference("span", *(max((x.end for x in r), default=0) - min((x.start for x in r), default=0) for r in both)),
        Difference("TIU busy", *(sum(x.tiu for x in r) for r in both)),
        Difference("TDMA busy", *(sum(x.tdma for x in r) for r in both)),
        Difference("bytes", *(sum(x.num_bytes for x in r) for r in both)),
    )
    sums: list[dict[Any, int]] = [{}, {}]
    for side, rows in zip(sums, both, strict=True):
        for row in rows:
            side[row.layer] = side.get(row.layer, 0) + row.tiu + row.tdma
    return PmuComparison(totals, (), _differences(sums[0], sums[1], "layer "), tolerance)


def _sums(records: PmuRecords, keys: Sequence[Any]) -> dict[Any, int]:
    """Ticks by key, of which `keys` has one for each record. The second record of a copy within DRAM counts 0."""
    out: dict[Any, int] = {}
    ticks = np.where(records.second_of_copy, 0, records.end - records.start).tolist()
    for key, value in zip(keys, ticks, strict=True):
        out[key] = out.get(key, 0) + value
    return out


def _differences(target: Mapping[Any, int], reference: Mapping[Any, int], prefix: str = "") -> tuple[Difference, ...]:
    names = [*reference, *(name for name in target if name not in reference)]
    return tuple(Difference(f"{prefix}{name}", target.get(name, 0), reference.get(name, 0)) for name in names)

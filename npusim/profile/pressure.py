"""Use of memory over time: DRAM bandwidth, and bytes of LMEM whose contents are still needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Floats, Ints
from npusim.insn import TDMA_OPERANDS, TIU_OPERANDS, WRITTEN_OPERANDS
from npusim.timing.spans import LmemUse
from npusim.timing.timeline import TDMA, Timeline

BINS = 2000
"""At most this many bins of a DRAM curve, more than a screen shows."""
MIN_BINS = 10
GRANULES = 128
"""A lane's LMEM is divided into this many granules; at most 256, so that a byte holds a granule's number."""


@dataclass(frozen=True)
class DramCurve:
    """Mean DRAM bandwidth in bins of equal time."""

    edges_ps: Floats
    """Edges of the bins, one more than there are bins."""
    gbps: Floats
    """GB/s in each bin."""


@dataclass(frozen=True)
class LmemCurve:
    """Bytes of LMEM in use, over all lanes: `num_bytes[i]` from `times_ps[i]` until `times_ps[i + 1]`."""

    times_ps: Ints
    """Times at which the number changes, ascending."""
    num_bytes: Ints

    @property
    def peak_bytes(self) -> int:
        return int(self.num_bytes.max(initial=0))


def dram_curve(timeline: Timeline, bins: int | None = None) -> DramCurve:
    """The bandwidth in `bins` bins; by default as many as there are commands, but at least MIN_BINS and at most BINS. A
    command's bytes are spread evenly over its time."""
    bins = bins or min(BINS, max(timeline.workload.num_commands, MIN_BINS))
    edges = np.linspace(timeline.first_ps, timeline.first_ps + max(timeline.ps, 1), bins + 1)
    knots = np.stack([timeline.start_ps[TDMA], timeline.end_ps[TDMA]], axis=1).ravel()
    total = np.cumsum(timeline.moved_bytes)
    sums = np.stack([total - timeline.moved_bytes, total], axis=1).ravel()
    done = np.interp(edges, knots, sums) if len(knots) else np.zeros(bins + 1)
    return DramCurve(edges, np.diff(done) * 1000 / np.diff(edges))


def lmem_curve(timeline: Timeline) -> LmemCurve:
    """The LMEM in use over time.

    A granule, a 128th of a lane's LMEM, is in use from a write until the last read before the next write. A granule
    counts for all lanes, so the number is a little high."""
    chip = timeline.workload.chip
    granule = chip.lmem_bytes // GRANULES
    # A moment is a start or an end of a command; from here on times are numbers of moments.
    moments, number = np.unique(np.concatenate([*timeline.start_ps, *timeline.end_ps]), return_inverse=True)
    starts, ends = np.split(number, 2)
    touch = _touches(timeline.workload.lmem, granule, starts)
    begun, writes = starts[touch.command], touch.writes
    # A granule stays in use until its next access if that is a read; else until the end of this access, or until it is
    # overwritten, if that is earlier.
    following = np.where(touch.is_last, len(moments), np.roll(begun, -1))
    read_next = ~touch.is_last & ~np.roll(writes, -1)
    until = np.maximum(np.where(read_next, following, np.minimum(ends[touch.command], following)), begun)
    change = np.bincount(begun, minlength=len(moments)) - np.bincount(until, minlength=len(moments))
    at = np.flatnonzero(change)
    return LmemCurve(moments[at], np.cumsum(change[at]) * granule * chip.num_lanes)


@dataclass(frozen=True)
class _Touches:
    """Accesses to granules: granule by granule, and in the order of the commands' starts. A read comes before a write
    with the same start."""

    command: Ints
    """The command's number: all TIU commands first, then all TDMA commands."""
    writes: NDArray[np.bool_]
    is_last: NDArray[np.bool_]
    """Whether nothing touches this granule later."""


def _touches(use: LmemUse, granule: int, starts: Ints) -> _Touches:
    """The accesses to granules of `granule` bytes. `starts` has the number of the moment at which each command starts,
    TIU commands first."""
    num_tiu, num_tdma = len(use.tiu), len(use.tdma)
    spans = np.concatenate([use.tiu.reshape(-1, 2), use.tdma.reshape(-1, 2)])
    command = np.repeat(
        np.arange(num_tiu + num_tdma), np.repeat([len(TIU_OPERANDS), len(TDMA_OPERANDS)], [num_tiu, num_tdma])
    )
    writes = np.concatenate([
        np.tile([name in WRITTEN_OPERANDS for name in names], count)
        for names, count in ((TIU_OPERANDS, num_tiu), (TDMA_OPERANDS, num_tdma))
    ])  # fmt: skip
    first, last = spans[:, 0] // granule, -(-spans[:, 1] // granule)
    last = np.where(spans[:, 1] > spans[:, 0], np.minimum(last, GRANULES), 0)
    order = np.argsort(2 * starts[command] + writes, kind="stable")
    order = order[last[order] > first[order]]
    count = (last - first)[order]
    span = np.repeat(order, count)
    place = np.arange(len(span)) - np.repeat(np.cumsum(count) - count - first[order], count)
    by_granule = np.argsort(place.astype(np.uint8), kind="stable")  # a radix sort, since the keys are bytes
    span = span[by_granule]
    is_last = np.zeros(len(span), bool)
    sizes = np.bincount(place, minlength=GRANULES)
    is_last[(np.cumsum(sizes) - 1)[sizes > 0]] = True
    return _Touches(command[span], writes[span], is_last)

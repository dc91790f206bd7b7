"""How hard memory is worked over time: DRAM bandwidth, and bytes of LMEM whose contents are still wanted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.timing.timeline import TDMA, TIU, Timeline

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
GRANULES = 128
"""Pieces of a lane's LMEM that are told apart."""


def dram_gbps_over_time(timeline: Timeline, bins: int) -> tuple[Floats, Floats]:
    """(edges in picoseconds, bins + 1 of them; mean GB/s in each bin). A command's bytes are spread evenly over its
    time."""
    edges = np.linspace(timeline.first_ps, timeline.first_ps + max(timeline.ps, 1), bins + 1)
    moved = timeline.dram_bytes("read") + timeline.dram_bytes("write")
    knots = np.stack([timeline.start_ps[TDMA], timeline.end_ps[TDMA]], axis=1).ravel()
    total = np.cumsum(moved)
    sums = np.stack([total - moved, total], axis=1).ravel()
    done = np.interp(edges, knots, sums) if len(knots) else np.zeros(bins + 1)
    return edges, np.diff(done) * 1000 / np.diff(edges)


def lmem_live_bytes(timeline: Timeline) -> tuple[Ints, Ints]:
    """(times in picoseconds, bytes of LMEM in use from each on), over all lanes.

    A piece of LMEM is in use from a write until the last read before the next write. Lanes are not told apart and
    pieces are a 128th of a lane, so the figure is a little high."""
    use, chip = timeline.workload.lmem, timeline.workload.chip
    granule = chip.lmem_bytes // GRANULES
    # In the order of TIU_OPERANDS and (source, destination): the first operand of a TIU command is written, and the
    # second of a TDMA one.
    spans = np.concatenate([use.tiu.reshape(-1, 2), use.tdma.reshape(-1, 2)])
    writes = np.concatenate([np.tile([True, False, False, False], len(use.tiu)), np.tile([False, True], len(use.tdma))])
    starts, ends = (
        np.concatenate([np.repeat(t[TIU], 4), np.repeat(t[TDMA], 2)]) for t in (timeline.start_ps, timeline.end_ps)
    )
    first, last = spans[:, 0] // granule, -(-np.minimum(spans[:, 1], chip.lmem_bytes) // granule)
    count = np.where(spans[:, 1] > spans[:, 0], np.maximum(last - first, 0), 0)
    which = np.repeat(np.arange(len(spans)), count)
    place = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
    order = np.lexsort((writes[which], starts[which], place))
    which, place = which[order], place[order]
    # A piece stays in use up to its next access if that reads it, else to the end of this one, or less where it is
    # overwritten before.
    begun, ended = starts[which], ends[which]
    same = np.append(place[1:] == place[:-1], False) if len(which) else np.zeros(0, bool)
    following = np.where(same, np.roll(begun, -1), np.iinfo(np.int64).max)
    wanted = same & ~np.roll(writes[which], -1)
    until = np.maximum(np.where(wanted, following, np.minimum(ended, following)), begun)
    times = np.concatenate([begun, until])
    change = np.repeat([1, -1], len(which)) * granule * chip.num_lanes
    moments, at = np.unique(times, return_inverse=True)
    delta = np.zeros(len(moments), np.int64)
    np.add.at(delta, at, change)
    return moments, np.cumsum(delta)

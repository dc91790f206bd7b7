"""What is known of the bytes of GMEM, once for all that no command tells apart."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from npusim.errors import NpusimError
from npusim.mem.region import Region

MAX_RUNS = 10_000_000
"""Separate runs of bytes that the commands of one buffer may touch. A classifier of 36,786 commands has 33,210. Two of
the compiler's tests load rows of one element: they have nine million, and a check of them takes 1.0 GB."""

Cut = slice | NDArray[np.int64]


class Cells:
    """The memory behind one base register as cells: runs of bytes that commands touch whole or not at all.

    Needs memory by how often commands cut it, and not by its size, which a file may state as it likes."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self.bounds = np.unique(np.array([0, num_bytes], np.int64))
        num_cells = len(self.bounds) - 1
        self.sizes = np.diff(self.bounds)
        self.is_set = np.zeros(num_cells, bool)
        self.was_read = np.zeros(num_cells, bool)
        self.writer = np.zeros(num_cells, np.int32)
        """The number of what wrote a cell last, from 1 on; 0 for nothing."""
        self._cuts: dict[Region, Cut] = {}

    def cut(self, regions: Iterable[Region]) -> None:
        """Cuts the memory where one of `regions` begins or ends. Raises NpusimError where they are too many pieces."""
        regions = set(regions)
        num_runs = sum(region.num_runs for region in regions)
        if num_runs > MAX_RUNS:
            raise NpusimError(
                f"the program touches GMEM in {num_runs:,} separate runs of bytes, but check follows at most "
                f"{MAX_RUNS:,}; check its command buffer alone, which leaves GMEM out"
            )
        starts = [region.starts() for region in regions]
        ends = [at + region.run for region, at in zip(regions, starts, strict=True)]
        bounds = np.unique(np.concatenate([self.bounds, *starts, *ends]))
        before = np.searchsorted(self.bounds, bounds[:-1], "right") - 1
        self.is_set, self.was_read, self.writer = self.is_set[before], self.was_read[before], self.writer[before]
        self.bounds, self.sizes = bounds, np.diff(bounds)
        self._cuts.clear()

    def of(self, region: Region) -> Cut:
        """The cells of a region, once for each combination of its indices, for use as an index. The memory is cut
        there."""
        found = self._cuts.get(region)
        if found is None:
            starts = region.starts()
            found = _joined(*np.searchsorted(self.bounds, (starts, starts + region.run)))
            self._cuts[region] = found
        return found

    def bytes_of(self, cut: Cut, chosen: NDArray[np.bool_]) -> int:
        """Bytes of those cells of `cut` that are chosen."""
        return int(self.sizes[cut][chosen].sum())


def _joined(first: NDArray[np.int64], end: NDArray[np.int64]) -> Cut:
    """All cells from each of `first` up to `end`."""
    if len(first) == 1:
        return slice(int(first[0]), int(end[0]))
    counts = end - first
    if (counts == 1).all():
        return first
    return np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())

"""Strided boxes of bytes: a run of bytes that repeats along axes. What an instruction touches is a few of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip

LMEM = -1
"""`Region.memory` of local memory. For GMEM it is the base register that the address counts from, 0 to 7."""
MAX_RUNS = 1 << 20
"""Boxes of more runs are not compared run by run. No tensor in LMEM has as many."""


class Region(NamedTuple):
    """`run` bytes at each address start + i * strides[0] + j * strides[1] + ..., with i below extents[0], j below
    extents[1], and so on.

    Normal form: strides descend, none is 0, no extent is 1, and contiguous bytes are one run. So boxes of the same
    bytes compare equal if their axes nest. Addresses in LMEM are linear (lane * bytes of a lane + offset). Addresses in
    GMEM count from the base register, without the chip's `gmem_base`."""

    memory: int
    start: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    run: int

    @property
    def end(self) -> int:
        """One past the last byte."""
        return (
            self.start
            + sum((extent - 1) * stride for extent, stride in zip(self.extents, self.strides, strict=True))
            + self.run
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of all runs; a byte in several runs counts several times."""
        count = self.run
        for extent in self.extents:
            count *= extent
        return count

    def regions(self, chip: Chip) -> tuple[Region]:
        """The region itself: it can be an operand's place, as a tensor can."""
        return (self,)

    @property
    def num_runs(self) -> int:
        return self.num_bytes // self.run

    def view(self, memory: NDArray, start: int = 0) -> NDArray:
        """A view of shape (*extents, run) of the 1-D array `memory`, which has one element for each byte, from address
        `start` on."""
        size = memory.itemsize
        strides = (*(stride * size for stride in self.strides), size)
        return np.ndarray((*self.extents, self.run), memory.dtype, memory, (self.start - start) * size, strides)

    def starts(self) -> NDArray[np.int64]:
        """Address of every run, ascending."""
        starts = np.array([self.start], np.int64)
        for extent, stride in zip(self.extents, self.strides, strict=True):
            starts = (starts[:, None] + np.arange(extent) * stride).reshape(-1)
        return np.sort(starts)

    def overlaps(self, other: Region) -> bool:
        """Whether any byte is in both. If the spans alone do not decide it, the time grows with the number of runs.

        Exact up to MAX_RUNS runs on each side. With more, boxes whose spans overlap count as overlapping.
        """
        if self.memory != other.memory or self.end <= other.start or other.end <= self.start:
            return False
        if (not self.extents and not other.extents) or max(self.num_runs, other.num_runs) > MAX_RUNS:
            return True
        ours, theirs = self.starts(), other.starts()
        after = np.searchsorted(theirs + other.run, ours, "right")  # the first of theirs that ends after ours starts
        found = after < len(theirs)
        return bool((theirs[after[found]] < ours[found] + self.run).any())


def region(memory: int, start: int, axes: Iterable[tuple[int, int]], run: int) -> Region:
    """The normal form of `run` bytes repeated along `axes` of (extent, stride)."""
    extents: list[int] = []
    strides: list[int] = []
    for stride, extent in sorted((stride, extent) for extent, stride in axes if extent > 1 and stride):
        if not extents and stride <= run:
            run += stride * (extent - 1)
        elif extents and stride == strides[-1] * extents[-1]:
            extents[-1] *= extent
        else:
            extents.append(extent)
            strides.append(stride)
    return Region(memory, start, tuple(extents[::-1]), tuple(strides[::-1]), run)

"""Bytes of one memory as a strided box: runs of bytes that repeat along axes. What an instruction touches is a few of
these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip

LMEM = -1
"""`Region.memory` of local memory; GMEM goes by the base register that an address counts from, 0 to 7."""


MAX_RUNS = 1 << 20


class Region(NamedTuple):
    """`run` bytes from `start` on, and again at every combination of `strides` below their `extents`.

    Normal form: strides descend, none is 0, no extent is 1, and what is contiguous is one run; so equal boxes compare
    equal where their axes nest. Addresses in LMEM are linear (lane * bytes a lane + offset); in GMEM they count from
    the base register, without the chip's `gmem_base`."""

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
        """Bytes, counted once for each combination of indices."""
        count = self.run
        for extent in self.extents:
            count *= extent
        return count

    def regions(self, chip: Chip) -> tuple[Region]:
        """Itself: a run of bytes is an operand's place as tensors are."""
        return (self,)

    @property
    def num_runs(self) -> int:
        return self.num_bytes // self.run

    def view(self, memory: NDArray, start: int = 0) -> NDArray:
        """A view of the 1-D `memory`, which holds one element for each byte from address `start` on, shape (*extents,
        run)."""
        size = memory.itemsize
        strides = (*(stride * size for stride in self.strides), size)
        return np.ndarray((*self.extents, self.run), memory.dtype, memory, (self.start - start) * size, strides)

    def starts(self) -> NDArray[np.int64]:
        """Where every run starts, ascending."""
        starts = np.array([self.start], np.int64)
        for extent, stride in zip(self.extents, self.strides, strict=True):
            starts = (starts[:, None] + np.arange(extent) * stride).reshape(-1)
        return np.sort(starts)

    def overlaps(self, other: Region) -> bool:
        """Whether any byte lies in both, in time of the number of runs where the spans alone do not tell.

        Exact up to MAX_RUNS runs a side; of more, which no program for LMEM has, spans that meet count as an overlap.
        """
        if self.memory != other.memory or self.end <= other.start or other.end <= self.start:
            return False
        if (not self.extents and not other.extents) or max(self.num_runs, other.num_runs) > MAX_RUNS:
            return True
        ours, theirs = self.starts(), other.starts()
        behind = np.searchsorted(
            theirs + other.run, ours, "right"
        )  # the first of theirs that ends behind the start of ours
        found = behind < len(theirs)
        return bool((theirs[behind[found]] < ours[found] + self.run).any())


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

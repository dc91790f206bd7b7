"""The bytes that a command touches, and maps with one entry for each byte of LMEM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.insn import Instruction
from npusim.insn.operand import Access, Role
from npusim.insn.tiu_matmul import MatrixMultiplication
from npusim.mem.region import LMEM, Region

Spans = list[tuple[int, int]]


class Touch(NamedTuple):
    """The bytes that a command touches. In LMEM: a sum that it continues (`sums`), the tile of a product (`tile`),
    other `reads`, and `writes`. In GMEM: (start, end) of what it reads and writes."""

    reads: list[Region]
    sums: list[Region]
    tile: list[Region]
    writes: list[Region]
    overwrites: list[Region]
    """The writes that do not depend on data."""
    from_gmem: Spans
    to_gmem: Spans
    can_fail: bool

    @classmethod
    def of(cls, instruction: Instruction, array_base: Sequence[int], is_movable: bool) -> Touch:
        """The bytes that `instruction` touches with base registers `array_base`."""
        reads, writes = instruction.footprint()
        is_product = isinstance(instruction, MatrixMultiplication)
        kinds: list[list[Access]] = [[], [], []]
        for access in reads:
            is_sum, is_tile = access.operand.role is Role.ACCUMULATE, access.name == "opd1"
            kinds[(1 if is_sum else 2 if is_tile else 0) if is_product else 0].append(access)
        sure = [access for access in writes if not access.operand.at_most]
        others, sums, tile = map(_in_lmem, kinds)
        return cls(
            others,
            sums,
            tile,
            writes=_in_lmem(writes),
            overwrites=_in_lmem(sure),
            from_gmem=_in_gmem(reads, array_base, is_movable),
            to_gmem=_in_gmem(writes, array_base, is_movable),
            can_fail=instruction.key() != instruction.work(),
        )

    def mark(self, is_dead: NDArray[np.bool_]) -> None:
        """Changes `is_dead`, the bytes of LMEM that are written again before they are read, from what is seen after the
        command to what is seen before it."""
        paint(is_dead, self.overwrites, True)
        for read in (self.reads, self.sums, self.tile):
            paint(is_dead, read, False)
        if self.can_fail:
            is_dead[:] = False


def _in_lmem(accesses: Iterable[Access]) -> list[Region]:
    return [region for access in accesses for region in access.regions if region.memory == LMEM]


def _in_gmem(accesses: Iterable[Access], array_base: Sequence[int], is_movable: bool) -> Spans:
    regions = [region for access in accesses for region in access.regions if region.memory != LMEM]
    if is_movable and regions:
        return [(0, 1 << 62)]
    return [(region.start + array_base[region.memory], region.end + array_base[region.memory]) for region in regions]


def last_of(numbers: NDArray, regions: Iterable[Region]) -> int:
    """The largest of `numbers` at the bytes of `regions`; 0 if there are none."""
    return max((int(region.view(numbers).max()) for region in regions), default=0)


def all_are(values: NDArray, regions: Iterable[Region], wanted: int) -> bool:
    """Whether `values` are `wanted` at all bytes of `regions`."""
    return all(bool((region.view(values) == wanted).all()) for region in regions)


def paint(values: NDArray, regions: Iterable[Region], value: int) -> None:
    """Sets `values` at the bytes of `regions`."""
    for region in regions:
        region.view(values)[...] = value

"""What a command touches, and maps of LMEM's bytes."""

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
    """What a command touches: of LMEM what it reads otherwise, reads as a sum to go on from or as the tile of a
    product, and writes; of GMEM the (start, end) of reads and writes."""

    reads: list[Region]
    sums: list[Region]
    tile: list[Region]
    writes: list[Region]
    overwrites: list[Region]
    """Of the writes those that happen whatever data say."""
    from_gmem: Spans
    to_gmem: Spans
    can_fail: bool

    @classmethod
    def of(cls, instruction: Instruction, array_base: Sequence[int], is_movable: bool) -> Touch:
        """What `instruction` touches behind base registers `array_base`."""
        reads, writes = instruction.footprint()
        is_product = isinstance(instruction, MatrixMultiplication)
        kinds: list[list[Access]] = [[], [], []]
        for access in reads:
            is_sum, is_tile = access.operand.role is Role.ACCUMULATE, access.name == "opd1"
            kinds[(1 if is_sum else 2 if is_tile else 0) if is_product else 0].append(access)
        sure = [access for access in writes if not access.operand.at_most]
        others, sums, tile = map(_near, kinds)
        return cls(
            others,
            sums,
            tile,
            writes=_near(writes),
            overwrites=_near(sure),
            from_gmem=_far(reads, array_base, is_movable),
            to_gmem=_far(writes, array_base, is_movable),
            can_fail=instruction.key() != instruction.work(),
        )

    def mark(self, is_dead: NDArray[np.bool_]) -> None:
        """From which bytes of LMEM are written again before they are read, behind the command, to those in front."""
        paint(is_dead, self.overwrites, True)
        for read in (self.reads, self.sums, self.tile):
            paint(is_dead, read, False)
        if self.can_fail:
            is_dead[:] = False


def _near(accesses: Iterable[Access]) -> list[Region]:
    return [region for access in accesses for region in access.regions if region.memory == LMEM]


def _far(accesses: Iterable[Access], array_base: Sequence[int], is_movable: bool) -> Spans:
    far = [region for access in accesses for region in access.regions if region.memory != LMEM]
    if is_movable and far:
        return [(0, 1 << 62)]
    return [(region.start + array_base[region.memory], region.end + array_base[region.memory]) for region in far]


def last_of(numbers: NDArray, regions: Iterable[Region]) -> int:
    return max((int(region.view(numbers).max()) for region in regions), default=0)


def all_are(values: NDArray, regions: Iterable[Region], wanted: int) -> bool:
    return all(bool((region.view(values) == wanted).all()) for region in regions)


def paint(values: NDArray, regions: Iterable[Region], value: int) -> None:
    for region in regions:
        region.view(values)[...] = value

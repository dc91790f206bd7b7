"""Operands of a descriptor as regions: tensors in LMEM and in GMEM, and planes of them."""

from __future__ import annotations

from typing import NamedTuple

from npusim.chip import Chip
from npusim.footprint.region import LMEM, Region, region
from npusim.insn.base import TiuInstruction
from npusim.insn.operands import addr_of, shape_of, strides_of
from npusim.mem.lmem import Shape


class Operand(NamedTuple):
    """What one operand of an instruction touches."""

    name: str
    """res0, opd0, opd1, opd2, source or destination."""
    regions: tuple[Region, ...]
    at_most: bool = False
    """The bytes touched are some of these: a compressed stream says itself how long it is."""

    @property
    def num_bytes(self) -> int:
        return sum(r.num_bytes for r in self.regions)


class Footprint(NamedTuple):
    """Everything that an instruction reads and writes, from its descriptor alone."""

    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]


def local_tensor(chip: Chip, addr: int, shape: Shape, strides: Shape, itemsize: int, first: int = 0) -> tuple[Region, ...]:
    """Channels `first` to `first + c` of a tensor in LMEM at linear address `addr`, in up to three pieces where they go round the lanes."""
    lanes, lane_bytes = chip.num_lanes, chip.lmem_bytes
    (n, c, h, w), (n_str, c_str, h_str, w_str) = shape, strides
    lane0, offset = divmod(addr, lane_bytes)
    turn, lane0 = divmod(lane0 + first, lanes)
    start, inner = offset + turn * c_str, ((n, n_str), (h, h_str), (w, w_str))
    if lane0 + c <= lanes:
        return (region(LMEM, start + lane0 * lane_bytes, ((c, lane_bytes), *inner), itemsize),)
    found = []
    if lane0:
        found.append(region(LMEM, start + lane0 * lane_bytes, ((lanes - lane0, lane_bytes), *inner), itemsize))
        c -= lanes - lane0
        start += c_str
    turns, rest = divmod(c, lanes)
    if turns:
        found.append(region(LMEM, start, ((turns, c_str), (lanes, lane_bytes), *inner), itemsize))
    if rest:
        found.append(region(LMEM, start + turns * c_str, ((rest, lane_bytes), *inner), itemsize))
    return tuple(found)


def tiu_planes(
    insn: TiuInstruction, name: str, itemsize: int, num_planes: int = 1, b_str: int = 0, shape: Shape | None = None
) -> tuple[Region, ...]:
    """Operand `name` as `num_planes` tensors, `b_str` bytes apart, at the strides that the descriptor gives or stands for."""
    shape = shape or shape_of(insn, name)
    strides, addr = strides_of(insn, name, shape, itemsize), addr_of(insn, name)
    return tuple(r for i in range(num_planes) for r in local_tensor(insn.chip, addr + i * b_str, shape, strides, itemsize))


def tiu_per_channel(insn: TiuInstruction, name: str, num_bytes: int, offset: int = 0) -> tuple[Region, ...]:
    """`num_bytes` packed bytes for each channel of the result: kernels, biases, quantisation records."""
    shape = (1, insn.regs.res0_c, 1, num_bytes)
    return local_tensor(insn.chip, addr_of(insn, name) + offset, shape, (0, num_bytes, 0, 1), 1)

"""Operands of a descriptor as regions: tensors in LMEM and in GMEM, and planes of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from npusim.chip import Chip
from npusim.insn.base import TiuInstruction
from npusim.insn.operands import addr_of, shape_of, strides_of
from npusim.mem.lmem import Shape
from npusim.mem.region import LMEM, Region, region


class LocalTensor(NamedTuple):
    """Elements in LMEM as TensorLmem lays them out: a linear address of lane and offset, strides in bytes."""

    addr: int
    shape: Shape
    strides: Shape
    itemsize: int

    def regions(self, chip: Chip) -> Iterable[Region]:
        """Up to three, where channels go round the lanes."""
        lanes, lane_bytes = chip.num_lanes, chip.lmem_bytes
        (n, c, h, w), (n_str, c_str, h_str, w_str) = self.shape, self.strides
        lane0, start = divmod(self.addr, lane_bytes)
        inner = ((n, n_str), (h, h_str), (w, w_str))
        if lane0 + c <= lanes:
            yield region(LMEM, self.addr, ((c, lane_bytes), *inner), self.itemsize)
            return
        if lane0:
            yield region(LMEM, self.addr, ((lanes - lane0, lane_bytes), *inner), self.itemsize)
            c -= lanes - lane0
            start += c_str
        turns, rest = divmod(c, lanes)
        if turns:
            yield region(LMEM, start, ((turns, c_str), (lanes, lane_bytes), *inner), self.itemsize)
        if rest:
            yield region(LMEM, start + turns * c_str, ((rest, lane_bytes), *inner), self.itemsize)

    def from_channel(self, first: int, count: int, chip: Chip) -> LocalTensor:
        """Channels `first` to `first + count`."""
        lane, offset = divmod(self.addr, chip.lmem_bytes)
        turn, lane = divmod(lane + first, chip.num_lanes)
        n, _, h, w = self.shape
        return self._replace(addr=lane * chip.lmem_bytes + offset + turn * self.strides[1], shape=(n, count, h, w))


class Operand(NamedTuple):
    """What one operand of an instruction touches."""

    name: str
    """res0, opd0, opd1, opd2, source or destination."""
    regions: tuple[Region, ...]
    at_most: bool = False
    """The bytes touched are some of these: a compressed stream says itself how long it is."""
    tensors: tuple[LocalTensor, ...] = ()
    """Where it lies in LMEM as elements: the same bytes as the regions. Several are planes, or pieces."""

    @property
    def num_bytes(self) -> int:
        return sum(r.num_bytes for r in self.regions)


class Footprint(NamedTuple):
    """Everything that an instruction reads and writes, from its descriptor alone."""

    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]


def local_operand(chip: Chip, name: str, tensors: Iterable[LocalTensor]) -> Operand:
    tensors = tuple(tensors)
    return Operand(name, tuple(r for tensor in tensors for r in tensor.regions(chip)), tensors=tensors)


def tiu_tensor(insn: TiuInstruction, name: str, itemsize: int, shape: Shape | None = None) -> LocalTensor:
    """Operand `name` at the strides that the descriptor gives or stands for."""
    shape = shape or shape_of(insn, name)
    return LocalTensor(addr_of(insn, name), shape, strides_of(insn, name, shape, itemsize), itemsize)


def planes(tensor: LocalTensor, num_planes: int, b_str: int) -> list[LocalTensor]:
    """`num_planes` tensors alike, `b_str` bytes apart."""
    return [tensor._replace(addr=tensor.addr + i * b_str) for i in range(num_planes)]


def per_channel(insn: TiuInstruction, name: str, num_bytes: int, offset: int = 0) -> LocalTensor:
    """`num_bytes` packed bytes for each channel of the result: kernels, biases, quantisation records."""
    return LocalTensor(addr_of(insn, name) + offset, (1, insn.regs.res0_c, 1, num_bytes), (0, num_bytes, 0, 1), 1)

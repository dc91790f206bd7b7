"""TIU operands: from a descriptor's fields to tensors in LMEM."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npusim.insn.base import TiuInstruction
from npusim.mem.lmem import Shape, TensorLmem, align_up, lmem_tensor
from npusim.numerics import bf16
from npusim.numerics.accumulate import LARGEST
from npusim.state import State

INT8: tuple[DTypeLike, DTypeLike] = (np.uint8, np.int8)
"""Element type of an 8-bit operand by its sign bit."""


def shape_of(insn: TiuInstruction, name: str) -> Shape:
    """(n, c, h, w) of operand `name` ("res0", "opd0", "opd1", "opd2")."""
    n, c, h, w = (getattr(insn.regs, f"{name}_{dim}") for dim in "nchw")
    insn.require(min(n, c, h, w) > 0, f"{name} has shape {(n, c, h, w)}; every extent must be at least 1")
    return (n, c, h, w)


def addr_of(insn: TiuInstruction, name: str) -> int:
    """Linear LMEM address of operand `name`. opd1 and opd2 hold 16 bits; their higher bits (lane / 2) are those of
    res0."""
    addr = int(getattr(insn.regs, f"{name}_addr"))
    return addr if name in ("res0", "opd0") else insn.regs.res0_addr & ~0xFFFF | addr


def strides_of(insn: TiuInstruction, name: str, shape: Shape, itemsize: int) -> Shape:
    """Byte strides of an operand, as its `short_*_str` says: 0 aligned to EUs, 1 kernel, 2 packed, 3 given by the
    descriptor."""
    regs, mode = insn.regs, getattr(insn.regs, f"short_{name}_str")
    if mode == 3:
        return tuple(getattr(regs, f"{name}_{dim}_str") for dim in "nchw")
    _, c, h, w = shape
    c_str = h * w * itemsize
    if mode == 0:
        c_str = align_up(c_str, insn.chip.eu_num)
    lane0 = addr_of(insn, name) // insn.chip.lmem_bytes
    return (c_str * -(-(lane0 + c) // insn.chip.num_lanes), c_str, w * itemsize, itemsize)


def tensor(
    insn: TiuInstruction, state: State, name: str, dtype: DTypeLike, shape: Shape | None = None, offset: int = 0
) -> TensorLmem:
    """Operand `name` as a tensor of `dtype`, `offset` bytes behind its address."""
    shape = shape or shape_of(insn, name)
    strides = strides_of(insn, name, shape, np.dtype(dtype).itemsize)
    return lmem_tensor(state, addr_of(insn, name) + offset, shape, strides, dtype, name)


def per_channel(
    insn: TiuInstruction, state: State, name: str, count: int, dtype: DTypeLike = np.uint8, offset: int = 0
) -> TensorLmem:
    """`count` packed elements for each channel of the result, shape (1, c, 1, count): kernels, biases, quantisation
    records."""
    itemsize = np.dtype(dtype).itemsize
    strides = (0, count * itemsize, 0, itemsize)
    return lmem_tensor(state, addr_of(insn, name) + offset, (1, insn.regs.res0_c, 1, count), strides, dtype, name)


def constant_int8(insn: TiuInstruction) -> int:
    """The 8-bit constant that stands in opd1's address field."""
    return int(np.uint8(insn.regs.opd1_addr & 0xFF).view(INT8[insn.regs.opt_opd1_sign]))


def fill_int8(insn: TiuInstruction) -> int:
    """The 8-bit value that padding and insertion put into opd0."""
    return int(np.uint8(insn.regs.opd0_ins_val & 0xFF).view(INT8[insn.regs.opt_opd0_sign]))


def fill_float(insn: TiuInstruction) -> float:
    """What padding and insertion put into the bf16 opd0 of a sum of products: the field's integer as a float32, not its
    bit pattern."""
    return float(_fill_field(insn))


def fill_pattern(insn: TiuInstruction) -> float:
    """What maximum and minimum pooling of bf16 begin with: the field as a bf16 pattern."""
    return float(bf16.to_float(np.array([_fill_field(insn)], np.uint16))[0])


def _fill_field(insn: TiuInstruction) -> int:
    return insn.regs.opd0_ins_fp if insn.chip.tiu_layout == "cv183x" else insn.regs.opd0_ins_val


class Planes:
    """A tensor of several bytes (or halves) an element that lie in planes, `b_str` bytes apart."""

    def __init__(self, planes: list[TensorLmem]) -> None:
        self._planes = planes

    def load_int(self, signed: bool) -> NDArray[np.int32]:
        """Little-endian planes of bytes as integers; `signed` extends the sign of the highest."""
        total = np.zeros(self._planes[0].shape, np.int32)
        for i, plane in enumerate(self._planes):
            total |= plane.load().astype(np.int32) << (8 * i)
        bits = 8 * len(self._planes)
        if signed and bits < 32:
            total = (total << (32 - bits)) >> (32 - bits)
        return total

    def store_int(self, values: NDArray) -> None:
        for i, plane in enumerate(self._planes):
            plane.store(((values >> (8 * i)) & 0xFF).astype(np.uint8))

    def load_float(self) -> NDArray[np.float32]:
        """Two uint16 planes, high half first, as float32."""
        high, low = (plane.load().astype(np.uint32) for plane in self._planes)
        return ((high << 16) | low).view(np.float32)

    def store_float(self, values: NDArray[np.float32]) -> None:
        bits = np.where(np.isnan(values), LARGEST, values).view(np.uint32)
        self._planes[0].store((bits >> 16).astype(np.uint16))
        self._planes[1].store((bits & 0xFFFF).astype(np.uint16))


def planes(
    insn: TiuInstruction, state: State, name: str, dtype: DTypeLike, count: int, b_str: int, shape: Shape | None = None
) -> Planes:
    """Operand `name` as `count` planes of `dtype`, `b_str` bytes apart."""
    return Planes([tensor(insn, state, name, dtype, shape, i * b_str) for i in range(count)])

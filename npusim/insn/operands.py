"""The tensors in LMEM that a TIU descriptor's fields describe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import TiuInstruction
from npusim.insn.operand import Role
from npusim.mem.lmem import TensorLmem, align_up, lmem_tensor
from npusim.mem.tensor import Fmt, LocalTensor, Shape
from npusim.numerics import bf16
from npusim.numerics.accumulate import LARGEST
from npusim.state import State

Tensors = tuple[LocalTensor, ...]
MAX_ELEMENTS = 1 << 24
"""The most elements of one operand. The largest LMEM has 2**20 bytes, so an operand with more uses bytes repeatedly."""
INT8 = (Fmt.U8, Fmt.I8)
"""Format of an 8-bit operand by its sign bit."""


def shape_of(insn: TiuInstruction, name: str) -> Shape:
    """(n, c, h, w) of operand `name` ("res0", "opd0", "opd1", "opd2")."""
    regs = insn.regs
    return tuple(getattr(regs, f"{name}_{dim}") for dim in "nchw")


def checked_shape(insn: TiuInstruction, name: str) -> Shape:
    """As shape_of. Refuses extents of 0 and more than MAX_ELEMENTS elements."""
    shape = shape_of(insn, name)
    if min(shape) < 1:
        insn.refuse(f"{name} has shape {shape}; every extent must be at least 1")
    if math.prod(shape) > MAX_ELEMENTS:
        insn.refuse(f"{name} has shape {shape}; at most {MAX_ELEMENTS} elements, which share bytes of LMEM, are run")
    return shape


def addr_of(insn: TiuInstruction, name: str) -> int:
    """Linear LMEM address of operand `name`."""
    addr: int = addr_in(insn.regs, name)
    return addr


def addr_in(regs: Any, name: str) -> Any:
    """The same for `regs`, whose fields are numbers, or arrays for many descriptors. The addresses of opd1 and opd2
    have 16 bits; the higher bits (lane / 2) are those of res0."""
    addr = getattr(regs, f"{name}_addr")
    return addr if name in ("res0", "opd0") else regs.res0_addr & ~0xFFFF | addr


def strides_of(insn: TiuInstruction, name: str, shape: Shape, itemsize: int) -> Shape:
    """Byte strides of an operand according to its `short_*_str`: 0 aligned to EUs, 1 kernel, 2 packed, 3 given in the
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


def tensor_of(insn: TiuInstruction, name: str, fmt: Fmt, shape: Shape | None = None) -> LocalTensor:
    """Operand `name` as a tensor, by default of shape_of."""
    shape = shape or shape_of(insn, name)
    return LocalTensor(addr_of(insn, name), shape, strides_of(insn, name, shape, fmt.itemsize), fmt)


def planes_of(tensor: LocalTensor, count: int, b_str: int) -> Tensors:
    """`count` equal tensors, `b_str` bytes apart: one for each byte, or each half, of an element."""
    return tuple(tensor._replace(addr=tensor.addr + i * b_str) for i in range(count))


def per_channel(insn: TiuInstruction, name: str, count: int, fmt: Fmt = Fmt.U8) -> LocalTensor:
    """`count` packed elements for each channel of the result, shape (1, c, 1, count): kernels, biases, quantisation
    records."""
    size = fmt.itemsize
    return LocalTensor(addr_of(insn, name), (1, insn.regs.res0_c, 1, count), (0, count * size, 0, size), fmt)


def element_fmt(insn: TiuInstruction, name: str) -> Fmt:
    """The format of operand `name`: bf16, or 8 bits, signed or not."""
    return Fmt.BF16 if insn.is_float else INT8[getattr(insn.regs, f"opt_{name}_sign")]


def whole(name: str) -> Callable[[Any], Tensors]:
    """Declares an operand that is one tensor of the instruction's element type."""
    return lambda insn: (tensor_of(insn, name, element_fmt(insn, name)),)


def result(insn: TiuInstruction) -> Tensors:
    """Declares a result that is one tensor: bf16, or bytes."""
    return (tensor_of(insn, "res0", Fmt.BF16 if insn.is_float else Fmt.U8),)


def bound(insn: TiuInstruction, state: State, name: str, role: Role = Role.READ) -> TensorLmem:
    """The declared operand, which is one tensor, bound to memory."""
    (tensor,) = insn.tensors(name, role)
    return lmem_tensor(state, tensor, name)


def bound_planes(insn: TiuInstruction, state: State, name: str, role: Role = Role.READ) -> Planes | None:
    """The declared operand's planes, bound to memory; None if there is no such operand."""
    return planes_at(state, insn.tensors(name, role), name)


def planes_at(state: State, tensors: Tensors, name: str) -> Planes | None:
    """Planes of operand `name`, bound to memory; None if there are none."""
    return Planes([lmem_tensor(state, tensor, name) for tensor in tensors]) if tensors else None


def constant_int8(insn: TiuInstruction) -> int:
    """The 8-bit constant in opd1's address field."""
    return _int8(insn.regs.opd1_addr, insn.regs.opt_opd1_sign)


def fill_int8(insn: TiuInstruction) -> int:
    """The 8-bit value that padding and insertion put into opd0."""
    return _int8(insn.regs.opd0_ins_val, insn.regs.opt_opd0_sign)


def _int8(field: int, signed: int) -> int:
    byte = field & 0xFF
    return byte - 256 if signed and byte >= 128 else byte


def fill_float(insn: TiuInstruction) -> float:
    """The number that padding and insertion put into the bf16 opd0 of a sum of products: the field's integer as a
    float32, not as a bit pattern."""
    return float(_fill_field(insn))


def fill_pattern(insn: TiuInstruction) -> float:
    """The number with which maximum and minimum pooling of bf16 begin: the field as a bf16 pattern."""
    return float(bf16.to_float(np.array([_fill_field(insn)], np.uint16))[0])


def _fill_field(insn: TiuInstruction) -> int:
    return insn.regs.opd0_ins_fp if insn.chip.tiu_layout == "cv183x" else insn.regs.opd0_ins_val


class Planes:
    """A tensor whose elements have several bytes (or halves), each in a plane of its own."""

    def __init__(self, planes: list[TensorLmem]) -> None:
        self._planes = planes

    def load_int(self, signed: bool) -> NDArray[np.int32]:
        """Little-endian planes of bytes as int32, in the planes' shape; `signed` extends the sign of the highest."""
        total = np.zeros(self._planes[0].shape, np.int32)
        for i, plane in enumerate(self._planes):
            total |= plane.load().astype(np.int32) << (8 * i)
        bits = 8 * len(self._planes)
        if signed and bits < 32:
            total = (total << (32 - bits)) >> (32 - bits)
        return total

    def store(self, values: NDArray) -> None:
        """Writes values that fit one plane into the only plane."""
        self._planes[0].store(values)

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

"""The common part of elementwise TIU operations: their rules, and functions that read 8-bit, 16-bit and bf16 operands
at run time.

The rules are assertions of the vendor's functional model. Field names are those of cv181x_tiu_reg.h (wwwuxy/cvikernel).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import TiuInstruction
from npusim.insn.operand import Operand, Role, Share
from npusim.insn.operands import INT8, MAX_ELEMENTS, Tensors, addr_of
from npusim.isa.opcodes import ArithEuTyp, TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import lmem_tensor
from npusim.mem.tensor import Fmt, LocalTensor
from npusim.numerics import bf16
from npusim.numerics.requant import saturate, shift_right
from npusim.state import State

_SHAPE = {name: attrgetter(*(f"{name}_{dim}" for dim in "nchw")) for name in ("res0", "opd0", "opd1")}
_STRIDES = {name: attrgetter(*(f"{name}_{dim}_str" for dim in "nchw")) for name in _SHAPE}
"""Fields of an operand in one call: programs bind tens of thousands of these instructions."""

Source = Callable[[], NDArray]
"""Reads an operand as it is now; the array broadcasts to the result's shape, may be a view of LMEM and is not written
to."""
Sink = Callable[[NDArray], None]
"""Writes a result that was computed into an array of its own."""


class Elementwise(TiuInstruction):
    """One operation on every element of tensors of the same shape. Constants are in the address fields.

    All operands are read before the result is written, so they may overlap.
    """

    __slots__ = ()
    eu_typ: ClassVar[ArithEuTyp]
    num_operands: ClassVar[int] = 2

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return (
            regs.tsk_typ == TskTyp.TENSOR_ARITH
            and regs.tsk_eu_typ == cls.eu_typ
            and not (regs.tens_lookup or regs.tens_mdsum)
        )

    def acts(self) -> bool:
        return bool(self.regs.res0_n)

    @property
    def is_float(self) -> bool:
        """Whether the elements are bf16, and not bytes."""
        return False

    def check_rules(self) -> None:
        """All operands, including constants, must have the same shape. Tensors must have given strides, which must be
        even for bf16."""
        regs = self.regs
        if regs.tsk_opd_num != self.num_operands:
            self.refuse(f"tsk_opd_num is {regs.tsk_opd_num}; this operation takes {self.num_operands}")
        if regs.opt_relu_typ and not regs.opt_res0_seg:
            self.refuse("opt_relu_typ is set with opt_res0_seg 0; ReLU gives results of one plane (1)")
        shape, opd0, opd1 = _SHAPE["res0"](regs), _SHAPE["opd0"](regs), _SHAPE["opd1"](regs)
        if 0 in (shape[1:] if self.chip.tiu_layout == "cv183x" else shape):  # with n 0, cv183x does nothing
            self.refuse(f"res0 has shape {shape}; every extent must be at least 1")
        if math.prod(shape) > MAX_ELEMENTS:
            self.refuse(f"res0 has shape {shape}; at most {MAX_ELEMENTS} elements, which share bytes of LMEM, are run")
        if opd0 != shape or (self.num_operands == 2 and opd1 != shape):
            self._check_constant(shape, opd0, opd1)
        self._check_strides("res0", regs.short_res0_str)
        self._check_strides("opd0", regs.short_opd0_str)
        if self.num_operands == 2 and not regs.opt_opd1_const:
            self._check_strides("opd1", regs.short_opd1_str)
        if not (regs.opt_res0_seg or regs.res0_b_str):
            self.refuse("res0_b_str is 0 with opt_res0_seg 0; the high bytes lie behind the low ones")
        if not self.acts():
            self._check_addrs()
        elif not self.is_float:
            self._check_planes()

    def _check_constant(self, shape: tuple[int, ...], opd0: tuple[int, ...], opd1: tuple[int, ...]) -> None:
        """Tensors must have equal shapes. A constant opd1 may have another shape with as many elements."""
        if opd0 != shape or not self.regs.opt_opd1_const:
            self.refuse(
                f"opd0, opd1 and res0 have shapes {opd0}, {opd1} and {shape}; an elementwise operation takes equal ones"
            )
        if math.prod(opd1) != math.prod(shape):
            self.refuse(f"opd1 is a constant of shape {opd1}; it must fill as many elements as res0 {shape} has")

    def _check_strides(self, name: str, mode: int) -> None:
        if mode != 3:
            self.refuse(f"short_{name}_str is {mode}; an elementwise operation gives its strides (3)")
        if self.regs.opd_typ and any(stride & 1 for stride in _STRIDES[name](self.regs)):
            self.refuse(f"{name} has strides {_STRIDES[name](self.regs)}; with opd_typ 1 (bf16) they must be even")

    def check_width(self, eight_bit: bool, *names: str) -> None:
        """The operands `names` must be 8-bit (for `opd_typ` 1, bf16), or else two planes of bytes."""
        for name in names:
            seg = getattr(self.regs, f"opt_{name}_seg")
            if bool(seg) != eight_bit:
                wanted = "1 (one plane)" if eight_bit else "0 (low and high byte planes)"
                self.refuse(f"opt_{name}_seg is {seg}; this operation takes {wanted}")

    def is_tensor(self, name: str) -> bool:
        """Whether an operand is in LMEM, not a constant in the address field."""
        regs = self.regs
        return not ((name == "opd0" and regs.opt_opd0_const) or (name == "opd1" and regs.opt_opd1_const))

    def _check_addrs(self) -> None:
        """Operands must be in LMEM, even if they have no elements."""
        lmem_bytes = self.chip.num_lanes * self.chip.lmem_bytes
        for operand in self.operands:
            for tensor in operand.places(self):
                if isinstance(tensor, LocalTensor) and tensor.addr >= lmem_bytes:
                    self.refuse(f"{operand.name} lies at {tensor.addr:#x}; LMEM ends at {lmem_bytes:#x}")

    def _check_planes(self) -> None:
        """The high bytes of 16-bit elements must be after the low ones, on the same lanes."""
        for operand in self.operands:
            planes = self.tensors(operand.name, operand.role)
            if len(planes) < 2:
                continue
            low, high = planes
            distance = high.addr - low.addr
            if not distance and operand.role is not Role.ACCUMULATE:
                self.refuse(f"{operand.name}_b_str is 0; the high bytes of 16-bit elements lie behind the low ones")
            if low.addr % self.chip.lmem_bytes + distance >= self.chip.lmem_bytes:
                self.refuse(
                    f"{operand.name}_b_str is {distance}, which puts the high bytes of {operand.name} at {low.addr:#x} "
                    "on another lane than the low ones"
                )

    @property
    def is_one_piece(self) -> bool:
        """Whether every tensor is one strided view of LMEM, and all views have the same shape."""
        names = ("res0", "opd0", "opd1")[: 1 + self.num_operands]
        last_lane = max(addr_of(self, name) for name in names if self.is_tensor(name)) // self.chip.lmem_bytes
        channels, lanes = self.regs.res0_c, self.chip.num_lanes
        return last_lane + channels <= lanes or (last_lane == 0 and channels % lanes == 0)

    def plane(self, name: str, fmt: Fmt, offset: int = 0) -> LocalTensor:
        """The tensor of the result's shape that is `offset` bytes after operand `name`'s address."""
        return LocalTensor(addr_of(self, name) + offset, _SHAPE["res0"](self.regs), _STRIDES[name](self.regs), fmt)

    def load_of(self, state: State, tensor: LocalTensor, name: str) -> Source:
        operand = lmem_tensor(state, tensor, name)
        if not self.is_one_piece:
            return operand.load
        view = operand.parts[0][1]
        return lambda: view

    def store_of(self, state: State, plane: int = 0) -> Sink:
        """Writes one plane of the result."""
        result = lmem_tensor(state, self.tensors("res0", Role.WRITE)[plane], "res0")
        if not self.is_one_piece:
            return result.store
        view = result.parts[0][1]
        if not result.is_distinct:
            return lambda values: result.store(np.broadcast_to(values, view.shape).reshape(result.shape))

        def store(values: NDArray) -> None:
            view[...] = values

        return store

    def bytes_of(self, state: State, name: str, plane: int = 0) -> Source:
        """Reads an 8-bit operand, or one plane of a 16-bit one."""
        tensors = self.tensors(name)
        if tensors:
            return self.load_of(state, tensors[plane], name)
        byte = getattr(self.regs, f"{name}_addr") >> (8 * plane) & 0xFF
        fmt = INT8[getattr(self.regs, f"opt_{name}_sign")]
        value = np.full((1, 1, 1, 1), byte, np.uint8).view(fmt.dtype)
        return lambda: value

    def halves_of(self, state: State, name: str) -> Source:
        """Reads a 16-bit operand in two planes of bytes, as int32."""
        if self.is_tensor(name):
            return halves(self.bytes_of(state, name), self.bytes_of(state, name, 1))
        pattern = np.full((1, 1, 1, 1), getattr(self.regs, f"{name}_addr") & 0xFFFF, np.uint16)
        value = pattern.view(np.int16 if getattr(self.regs, f"opt_{name}_sign") else np.uint16).astype(np.int32)
        return lambda: value

    def patterns_of(self, state: State, name: str) -> Source:
        """Reads a bf16 operand as the uint16 patterns in memory."""
        tensors = self.tensors(name)
        if tensors:
            return self.load_of(state, tensors[0], name)
        value = np.full((1, 1, 1, 1), getattr(self.regs, f"{name}_addr") & 0xFFFF, np.uint16)
        return lambda: value

    def floats_of(self, state: State, name: str) -> Source:
        """Reads a bf16 operand as float32, with NaN for poison."""
        load = self.patterns_of(state, name)
        if self.is_tensor(name):
            return lambda: bf16.to_float(load())
        value = bf16.to_float(load())
        return lambda: value

    def finish_int(self, state: State, relu: bool) -> Sink:
        """Shifts int32 values, applies ReLU, saturates to 8 or 16 bits and stores. A logical shift takes the values as
        32 unsigned bits."""
        regs = self.regs
        shift, rounding, signed = regs.opt_res_shift, bool(regs.opt_rshift_typ), bool(regs.opt_res0_sign)
        logical = bool(shift) and not regs.opt_shift_typ
        write = self.store_int(state)
        bits = 8 if regs.opt_res0_seg else 16

        def finish(values: NDArray) -> None:
            if logical:
                values = values.view(np.uint32)
            if shift:
                values = shift_right(values, shift, rounding)
            if relu:
                values = np.maximum(values, 0)
            write(saturate(values, bits, signed))

        return finish

    def store_int(self, state: State) -> Sink:
        """Stores integers that fit: as one plane, or as low and high bytes."""
        low = self.store_of(state)
        if self.regs.opt_res0_seg:
            return low
        high = self.store_of(state, 1)

        def write(values: NDArray) -> None:
            low(values)
            high(values >> 8)

        return write


def narrow(name: str) -> Callable[[Elementwise], Tensors]:
    """Declares an operand of 8 bits, or bf16; empty if it is a constant."""

    def places(insn: Elementwise) -> Tensors:
        if not insn.is_tensor(name):
            return ()
        return (insn.plane(name, Fmt.BF16 if insn.is_float else INT8[getattr(insn.regs, f"opt_{name}_sign")]),)

    return places


def wide(name: str) -> Callable[[Elementwise], Tensors]:
    """Declares an operand of 16 bits, with low and high bytes in two planes, or bf16; empty if it is a constant."""

    one = narrow(name)

    def places(insn: Elementwise) -> Tensors:
        if insn.is_float or not insn.is_tensor(name):
            return one(insn)
        high = INT8[getattr(insn.regs, f"opt_{name}_sign")]
        return insn.plane(name, Fmt.U8), insn.plane(name, high, getattr(insn.regs, f"{name}_b_str"))

    return places


def _result(insn: Elementwise) -> Tensors:
    if insn.is_float:
        return (insn.plane("res0", Fmt.BF16),)
    if insn.regs.opt_res0_seg:
        return (insn.plane("res0", Fmt.U8),)
    return insn.plane("res0", Fmt.U8), insn.plane("res0", Fmt.U8, insn.regs.res0_b_str)


RESULT = Operand("res0", Role.WRITE, "8 bits, 16 bits in two planes, or bf16", _result, Share.ELEMENT)


def element(name: str, what: str, places: Callable[[Any], Tensors], role: Role = Role.READ) -> Operand:
    """An operand of which each element is used for one element of the result."""
    return Operand(name, role, what, places, Share.ELEMENT)


def halves(low: Source, high: Source) -> Source:
    """Two planes of bytes as int32, signed as `high` is."""

    def load() -> NDArray[np.int32]:
        value = np.left_shift(high(), 8, dtype=np.int32)
        value |= low()
        return value

    return load

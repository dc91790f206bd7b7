"""What the elementwise TIU operations share: their rules, and operands as 8-bit, 16-bit and bf16 sources that are read
at run time.

The rules are those that the vendor's functional model asserts; field names are cv181x_tiu_reg.h's (wwwuxy/cvikernel).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npusim.insn.base import Bound, TiuInstruction
from npusim.insn.operands import INT8, addr_of
from npusim.isa.opcodes import ArithEuTyp, TskTyp
from npusim.mem.lmem import TensorLmem, lmem_tensor
from npusim.numerics import bf16
from npusim.numerics.requant import saturate, shift_right
from npusim.state import State

SHAPE = {name: attrgetter(*(f"{name}_{dim}" for dim in "nchw")) for name in ("res0", "opd0", "opd1")}
STRIDES = {name: attrgetter(*(f"{name}_{dim}_str" for dim in "nchw")) for name in SHAPE}
"""Fields of an operand in one call: programs bind tens of thousands of these instructions."""

Source = Callable[[], NDArray]
"""Reads an operand as it is now; the array broadcasts to the result's shape, may be a view of LMEM and is not written
to."""
Sink = Callable[[NDArray], None]
"""Writes a result that was computed into an array of its own."""


class Elementwise(TiuInstruction):
    """One operation on every element of tensors of one shape; constants stand in the address fields.

    Every operand is read whole before the result is written, so they may overlap.
    """

    __slots__ = ("_is_one_piece",)
    eu_typ: ClassVar[ArithEuTyp]
    num_operands: ClassVar[int] = 2

    @classmethod
    def matches(cls, regs) -> bool:  # type: ignore[no-untyped-def]
        return (
            regs.tsk_typ == TskTyp.TENSOR_ARITH
            and regs.tsk_eu_typ == cls.eu_typ
            and not (regs.tens_lookup or regs.tens_mdsum)
        )

    def bind(self, state: State) -> Bound:
        self.check()
        if not self.regs.res0_n:
            return lambda: None
        self._find_pieces()
        return self.bind_checked(state)

    def bind_checked(self, state: State) -> Bound:
        """What bind returns, once `check` has passed and there is something to do."""
        raise NotImplementedError

    def check(self) -> None:
        """All operands have one shape, constants too, and the tensors' strides are their own and even where the
        descriptor says bf16."""
        regs = self.regs
        if regs.tsk_opd_num != self.num_operands:
            self.refuse(f"tsk_opd_num is {regs.tsk_opd_num}; this operation takes {self.num_operands}")
        if regs.opt_relu_typ and not regs.opt_res0_seg:
            self.refuse("opt_relu_typ is set with opt_res0_seg 0; ReLU gives results of one plane (1)")
        shape, opd0, opd1 = SHAPE["res0"](regs), SHAPE["opd0"](regs), SHAPE["opd1"](regs)
        if 0 in (shape[1:] if self.chip.tiu_layout == "cv183x" else shape):  # with n 0, cv183x does nothing
            self.refuse(f"res0 has shape {shape}; every extent must be at least 1")
        if opd0 != shape or (self.num_operands == 2 and opd1 != shape):
            self.refuse(
                f"opd0, opd1 and res0 have shapes {opd0}, {opd1} and {shape}; an elementwise operation takes equal ones"
            )
        self._check_strides("res0", regs.short_res0_str)
        self._check_strides("opd0", regs.short_opd0_str)
        if self.num_operands == 2 and not regs.opt_opd1_const:
            self._check_strides("opd1", regs.short_opd1_str)

    def _check_strides(self, name: str, mode: int) -> None:
        if mode != 3:
            self.refuse(f"short_{name}_str is {mode}; an elementwise operation gives its strides (3)")
        if self.regs.opd_typ and any(stride & 1 for stride in STRIDES[name](self.regs)):
            self.refuse(f"{name} has strides {STRIDES[name](self.regs)}; with opd_typ 1 (bf16) they must be even")

    def check_width(self, eight_bit: bool, *names: str) -> None:
        """The operands `names` are 8-bit (or, for `opd_typ` 1, bf16), or else two planes of bytes."""
        for name in names:
            seg = getattr(self.regs, f"opt_{name}_seg")
            if bool(seg) != eight_bit:
                wanted = "1 (one plane)" if eight_bit else "0 (low and high byte planes)"
                self.refuse(f"opt_{name}_seg is {seg}; this operation takes {wanted}")

    def is_tensor(self, name: str) -> bool:
        """Whether an operand lies in LMEM, and is no constant in the address field."""
        regs = self.regs
        return not ((name == "opd0" and regs.opt_opd0_const) or (name == "opd1" and regs.opt_opd1_const))

    def _find_pieces(self) -> None:
        """Notes whether every tensor is one strided view of LMEM, and all of one shape: none wraps round the lanes, or
        all do so wholly."""
        names = ("res0", "opd0", "opd1")[: 1 + self.num_operands]
        last_lane = max(addr_of(self, name) for name in names if self.is_tensor(name)) // self.chip.lmem_bytes
        channels, lanes = self.regs.res0_c, self.chip.num_lanes
        self._is_one_piece = last_lane + channels <= lanes or (last_lane == 0 and channels % lanes == 0)

    def _tensor(self, state: State, name: str, dtype: DTypeLike, offset: int) -> TensorLmem:
        regs, addr = self.regs, addr_of(self, name)
        if offset and addr % self.chip.lmem_bytes + offset >= self.chip.lmem_bytes:
            self.refuse(
                f"{name}_b_str is {offset}, which puts the high bytes of {name} at {addr:#x} on another lane than "
                "the low ones"
            )
        return lmem_tensor(state, addr + offset, SHAPE["res0"](regs), STRIDES[name](regs), dtype, name)

    def load_of(self, state: State, name: str, dtype: DTypeLike, offset: int = 0) -> Source:
        """Reads the tensor `offset` bytes behind operand `name`'s address."""
        operand = self._tensor(state, name, dtype, offset)
        if not self._is_one_piece:
            return operand.load
        view = operand.parts[0][1]
        return lambda: view

    def store_of(self, state: State, dtype: DTypeLike, offset: int = 0) -> Sink:
        """Writes the tensor `offset` bytes behind res0's address."""
        result = self._tensor(state, "res0", dtype, offset)
        if not self._is_one_piece:
            return result.store
        view = result.parts[0][1]

        def store(values: NDArray) -> None:
            view[...] = values

        return store

    def plane_distance(self, name: str) -> int:
        """Bytes from the plane of low bytes to that of high bytes."""
        distance = int(getattr(self.regs, f"{name}_b_str"))
        if not distance and self.is_tensor(name):
            self.refuse(f"{name}_b_str is 0; the high bytes of 16-bit elements lie behind the low ones")
        return distance

    def bytes_of(self, state: State, name: str, signed: int, high: bool = False) -> Source:
        """8-bit operand, or one plane of a 16-bit one: its low or `high` bytes."""
        if self.is_tensor(name):
            return self.load_of(state, name, INT8[signed], self.plane_distance(name) if high else 0)
        byte = getattr(self.regs, f"{name}_addr") >> (8 if high else 0) & 0xFF
        value = np.full((1, 1, 1, 1), byte, np.uint8).view(INT8[signed])
        return lambda: value

    def halves_of(self, state: State, name: str, signed: int) -> Source:
        """16-bit operand in two planes of bytes, as int32."""
        low, high = self.bytes_of(state, name, 0), self.bytes_of(state, name, signed, high=True)

        def load() -> NDArray[np.int32]:
            value = np.left_shift(high(), 8, dtype=np.int32)
            value |= low()
            return value

        return load

    def patterns_of(self, state: State, name: str) -> Source:
        """bf16 operand as the uint16 patterns in memory."""
        if self.is_tensor(name):
            return self.load_of(state, name, np.uint16)
        value = np.full((1, 1, 1, 1), getattr(self.regs, f"{name}_addr") & 0xFFFF, np.uint16)
        return lambda: value

    def floats_of(self, state: State, name: str) -> Source:
        """bf16 operand as float32, NaN for poison."""
        load = self.patterns_of(state, name)
        if self.is_tensor(name):
            return lambda: bf16.to_float(load())
        value = bf16.to_float(load())
        return lambda: value

    def finish_int(self, state: State, relu: bool) -> Sink:
        """Shift, ReLU, saturation to 8 or 16 bits and the store of int32 values; a logical shift takes them as 32
        unsigned bits."""
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
        """Writes integers that fit: one plane, or low and high bytes."""
        low = self.store_of(state, np.uint8)
        if self.regs.opt_res0_seg:
            return low
        high = self.store_of(state, np.uint8, self.plane_distance("res0"))

        def write(values: NDArray) -> None:
            low(values)
            high(values >> 8)

        return write

    def finish_float(self, state: State, relu: bool) -> Sink:
        """Rounding to bf16, ReLU and the store of float32 values. An overflow is 0x7f7f before ReLU sees it, also a
        negative one."""
        store = self.store_of(state, np.uint16)
        if not relu:
            return lambda values: store(bf16.from_float(values))

        def finish(values: NDArray) -> None:
            patterns = bf16.from_float(values)
            patterns[patterns >= 0x8000] = 0
            store(patterns)

        return finish


def check_signs(insn: TiuInstruction) -> None:
    """The sign rules of an integer operation over its first `tsk_opd_num` operands, constants included."""
    regs = insn.regs
    signed = bool(regs.opt_opd0_sign or (regs.tsk_opd_num == 2 and regs.opt_opd1_sign))
    if regs.opt_relu_typ > 1:
        insn.refuse(f"opt_relu_typ is {regs.opt_relu_typ}; an integer operation knows 0 (none) and 1 (ReLU)")
    if regs.opt_relu_typ and not signed:
        insn.refuse("opt_relu_typ is 1 with unsigned operands; ReLU needs a signed one")
    if not regs.opt_relu_typ and bool(regs.opt_res0_sign) != signed:
        insn.refuse(f"opt_res0_sign is {regs.opt_res0_sign}; a result is signed exactly if an operand is")
    if regs.opt_res_shift and bool(regs.opt_shift_typ) != signed:
        insn.refuse(f"opt_shift_typ is {regs.opt_shift_typ}; a shift is arithmetic (1) exactly if an operand is signed")

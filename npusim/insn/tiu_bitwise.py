"""Bitwise tensor operations and the shift by a tensor of counts. They work on bytes: `opd_typ` only asks for even
strides.

Sources: tiu_and.c, tiu_or.c, tiu_xor.c, tiu_shift.c in wwwuxy/cvikernel src/cv181x.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from npusim.insn.base import Bound
from npusim.insn.elementwise import Elementwise, check_signs
from npusim.isa.opcodes import ArithEuTyp
from npusim.state import State

LARGEST_COUNT = 16


class ArithShift(Elementwise):
    """16-bit opd0 by the signed 8-bit count in opd1: left wraps, right (negative counts) floors.

    Counts beyond 16 either way are refused when they are met, before anything of the result is written.
    """

    __slots__ = ()
    mnemonic = "tiu_arith_shift"
    eu_typ = ArithEuTyp.SHIFT

    def meaning(self) -> tuple:
        return (*super().meaning(), self.index)

    def check(self) -> None:
        super().check()
        regs = self.regs
        self.check_width(False, "opd0")
        self.check_width(True, "opd1")
        if not regs.opd_typ:
            check_signs(self)
        if regs.opt_res_shift or regs.opt_rshift_typ:
            self.refuse(
                f"opt_res_shift is {regs.opt_res_shift} and opt_rshift_typ {regs.opt_rshift_typ}; the counts "
                "alone shift (0, 0)"
            )
        if regs.opt_shift_typ != regs.opt_opd0_sign:
            self.refuse(f"opt_shift_typ is {regs.opt_shift_typ}; it must be opt_opd0_sign, {regs.opt_opd0_sign}")
        if not regs.opt_opd1_sign:
            self.refuse("opt_opd1_sign is 0; shift counts are signed (1)")

    def bind_checked(self, state: State) -> Bound:
        values, counts = self.halves_of(state, "opd0", self.regs.opt_opd0_sign), self.bytes_of(state, "opd1", signed=1)
        low, high = self.store_of(state, np.uint8), self.store_of(state, np.uint8, self.plane_distance("res0"))

        def run() -> None:
            count = counts().astype(np.int32)
            left, right = np.maximum(count, 0), np.maximum(-count, 0)
            if left.max() > LARGEST_COUNT or right.max() > LARGEST_COUNT:
                self.refuse(
                    f"opd1 holds the shift count {count[np.abs(count) > LARGEST_COUNT][0]}; counts are -16 to 16"
                )
            shifted = (values() << left) >> right
            low(shifted)
            high(shifted >> 8)

        return run


class Bitwise(Elementwise):
    """8 or 16 bits, unsigned."""

    __slots__ = ()
    operation: ClassVar[np.ufunc]

    def check(self) -> None:
        super().check()
        regs = self.regs
        segs = (regs.opt_res0_seg, regs.opt_opd0_seg, regs.opt_opd1_seg)
        if len(set(segs)) > 1:
            self.refuse(f"opt_*_seg of res0, opd0, opd1 are {segs}; a bitwise operation takes one width")
        if regs.opt_opd0_sign or regs.opt_opd1_sign or regs.opt_res0_sign:
            self.refuse("a bitwise operation's operands and result are unsigned (opt_*_sign 0)")
        if not regs.opd_typ:
            check_signs(self)

    def bind_checked(self, state: State) -> Bound:
        low, operation = self._bind_plane(state, high=False), self.operation
        if self.regs.opt_res0_seg:
            a, b, store = low
            return lambda: store(operation(a(), b()))
        planes = [low, self._bind_plane(state, high=True)]

        def run() -> None:
            results = [operation(a(), b()) for a, b, _ in planes]
            for (_, _, store), values in zip(planes, results, strict=True):
                store(values)

        return run

    def _bind_plane(self, state: State, high: bool):  # type: ignore[no-untyped-def]
        """Two sources and the sink of the low or the high bytes."""
        a, b = self.bytes_of(state, "opd0", 0, high), self.bytes_of(state, "opd1", 0, high)
        return a, b, self.store_of(state, np.uint8, self.plane_distance("res0") if high else 0)


class And(Bitwise):
    """Bitwise and of two unsigned operands of 8 or 16 bits."""

    __slots__ = ()
    mnemonic = "tiu_and"
    eu_typ = ArithEuTyp.AND
    operation = np.bitwise_and


class Or(Bitwise):
    """Bitwise or of two unsigned operands of 8 or 16 bits."""

    __slots__ = ()
    mnemonic = "tiu_or"
    eu_typ = ArithEuTyp.OR
    operation = np.bitwise_or


class Xor(Bitwise):
    """Bitwise exclusive or of two unsigned operands of 8 or 16 bits."""

    __slots__ = ()
    mnemonic = "tiu_xor"
    eu_typ = ArithEuTyp.XOR
    operation = np.bitwise_xor


BITWISE_INSTRUCTIONS: tuple[type[Elementwise], ...] = (ArithShift, And, Or, Xor)

"""Bitwise tensor operations and the shift by a tensor of counts. They work on bytes: `opd_typ` only asks for even
strides.

Sources: tiu_and.c, tiu_or.c, tiu_xor.c, tiu_shift.c in wwwuxy/cvikernel src/cv181x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from npusim.insn.base import Bound
from npusim.insn.elementwise import RESULT, Elementwise, element, narrow, wide
from npusim.insn.operand import Holds, Operand, Role, Share
from npusim.insn.operands import Tensors
from npusim.insn.rules import check_signs
from npusim.isa.opcodes import ArithEuTyp
from npusim.mem.tensor import Fmt
from npusim.state import State

LARGEST_COUNT = 16


def _two_planes(insn: Elementwise) -> Tensors:
    return insn.plane("res0", Fmt.U8), insn.plane("res0", Fmt.U8, insn.regs.res0_b_str)


class ArithShift(Elementwise):
    """16-bit opd0 by the signed 8-bit count in opd1: left wraps, right (negative counts) floors.

    Counts beyond 16 either way are refused when they are met, before anything of the result is written.
    """

    __slots__ = ()
    mnemonic = "tiu_arith_shift"
    eu_typ = ArithEuTyp.SHIFT
    operands = (
        element("opd0", "16 bits in two planes", wide("opd0")),
        element("opd1", "signed counts of 8 bits, or a constant", narrow("opd1")),
        element("res0", "16 bits in two planes", _two_planes, Role.WRITE),
    )

    def key(self) -> tuple:
        return (*self.work(), self.index)

    def check_rules(self) -> None:
        super().check_rules()
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
        values, counts = self.halves_of(state, "opd0"), self.bytes_of(state, "opd1")
        low, high = self.store_of(state), self.store_of(state, 1)

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


def _as_wide_as_the_result(name: str) -> Callable[[Elementwise], Tensors]:
    one, two = narrow(name), wide(name)
    return lambda insn: one(insn) if insn.regs.opt_res0_seg else two(insn)


class Bitwise(Elementwise):
    """8 or 16 bits, unsigned."""

    __slots__ = ()
    operands = (
        Operand(
            "opd0", Role.READ, "8 or 16 bits", _as_wide_as_the_result("opd0"), share=Share.ELEMENT, holds=Holds.BYTES
        ),
        Operand(
            "opd1",
            Role.READ,
            "8 or 16 bits, or a constant",
            _as_wide_as_the_result("opd1"),
            share=Share.ELEMENT,
            holds=Holds.BYTES,
        ),
        RESULT._replace(holds=Holds.BYTES),
    )
    operation: ClassVar[np.ufunc]

    def check_rules(self) -> None:
        super().check_rules()
        regs = self.regs
        segs = (regs.opt_res0_seg, regs.opt_opd0_seg, regs.opt_opd1_seg)
        if len(set(segs)) > 1:
            self.refuse(f"opt_*_seg of res0, opd0, opd1 are {segs}; a bitwise operation takes one width")
        if regs.opt_opd0_sign or regs.opt_opd1_sign or regs.opt_res0_sign:
            self.refuse("a bitwise operation's operands and result are unsigned (opt_*_sign 0)")
        if not regs.opd_typ:
            check_signs(self)

    def bind_checked(self, state: State) -> Bound:
        operation = self.operation
        planes = [
            (self.bytes_of(state, "opd0", i), self.bytes_of(state, "opd1", i), self.store_of(state, i))
            for i in range(len(self.places("res0", Role.WRITE)))
        ]
        if len(planes) == 1:
            a, b, store = planes[0]
            return lambda: store(operation(a(), b()))

        def run() -> None:
            results = [operation(a(), b()) for a, b, _ in planes]
            for (_, _, store), values in zip(planes, results, strict=True):
                store(values)

        return run


class And(Bitwise):
    """Bitwise and of two unsigned operands of 8 or 16 bits."""

    __slots__ = ()
    mnemonic = "tiu_and"
    eu_typ = ArithEuTyp.AND
    operation = np.bitwise_and

    def apart(self) -> tuple[tuple[str, str], ...]:
        return (("opd0", "opd1"),)


class Or(Bitwise):
    """Bitwise or of two unsigned operands of 8 or 16 bits."""

    __slots__ = ()
    mnemonic = "tiu_or"
    eu_typ = ArithEuTyp.OR
    operation = np.bitwise_or

    def apart(self) -> tuple[tuple[str, str], ...]:
        return (("opd0", "opd1"),)


class Xor(Bitwise):
    """Bitwise exclusive or of two unsigned operands of 8 or 16 bits."""

    __slots__ = ()
    mnemonic = "tiu_xor"
    eu_typ = ArithEuTyp.XOR
    operation = np.bitwise_xor

    def clears(self) -> bool:
        """x ^ x is 0 whatever x is: how programs clear LMEM."""
        opd0, opd1 = ([list(place.regions(self.chip)) for place in self.tensors(name)] for name in ("opd0", "opd1"))
        return bool(opd0) and opd0 == opd1


BITWISE_INSTRUCTIONS: tuple[type[Elementwise], ...] = (ArithShift, And, Or, Xor)

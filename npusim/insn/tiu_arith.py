"""Tensor arithmetic in 8 bit, 16 bit and bf16: mul, mac, add, sub, max, min, ge, copy.

Sources: wwwuxy/cvikernel src/cv181x/tiu_*.c for the fields, sophgo/cviruntime test/181x/test_181x_*tensor_*.c for the
results."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound
from npusim.insn.elementwise import RESULT, Elementwise, Sink, element, halves, narrow, wide
from npusim.insn.operand import Holds, Operand, Role, Share
from npusim.insn.operands import INT8, Tensors
from npusim.insn.post import quantize_by_register
from npusim.insn.rules import check_signs
from npusim.isa.opcodes import ArithEuTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.tensor import Fmt
from npusim.numerics import bf16, bf16_arith
from npusim.state import State

PairsOperation = Callable[[NDArray[np.uint16], NDArray[np.uint16]], NDArray[np.uint16]]


class Arith(Elementwise):
    """An operation that has an integer and a bf16 form, chosen by `opd_typ`."""

    __slots__ = ()

    @property
    def is_float(self) -> bool:
        return bool(self.regs.opd_typ)

    def check_rules(self) -> None:
        super().check_rules()
        if not self.regs.opd_typ:
            check_signs(self)

    def bind_checked(self, state: State) -> Bound:
        return self.bind_float(state) if self.regs.opd_typ else self.bind_int(state)

    def bind_int(self, state: State) -> Bound:
        raise NotImplementedError

    def bind_float(self, state: State) -> Bound:
        raise NotImplementedError

    def bind_pairs(self, state: State, operation: PairsOperation, relu: bool) -> Bound:
        """A function that stores `operation` of the patterns of opd0 and opd1. An overflow is 0x7f7f before ReLU."""
        a, b, store = self.patterns_of(state, "opd0"), self.patterns_of(state, "opd1"), self.store_float(state, relu)
        return lambda: store(operation(a(), b()))

    def store_float(self, state: State, relu: bool) -> Sink:
        """Writes patterns; if `relu`, those of negative numbers become 0."""
        store = self.store_of(state)
        return (lambda patterns: store(np.where(patterns & 0x8000, np.uint16(0), patterns))) if relu else store

    @property
    def relu(self) -> bool:
        return bool(self.regs.opt_relu_typ == 1)


class Mul(Arith):
    """8 x 8 bits to 8 or 16, shifted right; bf16 products are rounded once."""

    __slots__ = ()
    mnemonic = "tiu_mul"
    eu_typ = ArithEuTyp.MUL
    operands = (
        element("opd0", "factor", narrow("opd0")),
        element("opd1", "factor, or a constant", narrow("opd1")),
        RESULT,
    )

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return super().matches(regs) and not regs.opt_chl_quan

    def check_rules(self) -> None:
        super().check_rules()
        self.check_width(True, "opd0", "opd1")

    def bind_int(self, state: State) -> Bound:
        return self.bind_product(state, self.finish_int(state, self.relu))

    def bind_product(self, state: State, finish: Sink) -> Bound:
        a, b = self.bytes_of(state, "opd0"), self.bytes_of(state, "opd1")
        return lambda: finish(np.multiply(a(), b(), dtype=np.int32))

    def bind_float(self, state: State) -> Bound:
        return self.bind_pairs(state, bf16_arith.products, self.relu)


class MulQm(Mul):
    """8 x 8 bits, then a 32-bit multiplier and a shift as in gemmlowp. `opd_typ` does not matter: the operands are
    bytes."""

    __slots__ = ()
    mnemonic = "tiu_mul_qm"

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return bool(regs.opt_chl_quan) and super(Mul, cls).matches(regs)

    @property
    def is_float(self) -> bool:
        return False

    def bind_checked(self, state: State) -> Bound:
        write, quantize = self.store_int(state), quantize_by_register(self, self.relu)
        return self.bind_product(state, lambda values: write(quantize(values)))


def _accumulator(insn: Mac) -> Tensors:
    """res0 as it comes in: 16 bits, whatever the result has, or bf16."""
    if insn.is_float:
        return (insn.plane("res0", Fmt.BF16),)
    high = insn.plane("res0", INT8[insn.regs.opt_res0_sign], insn.regs.res0_b_str)
    return insn.plane("res0", Fmt.U8), high


class Mac(Arith):
    """res0 = ((res0 << opt_left_shift) + a * b) >> opt_res_shift in 32 bits that wrap; res0 comes in as 16 bits.

    In bf16 the product is exact, the sum rounds toward zero, and res0 is read with its denormals.
    """

    __slots__ = ()
    mnemonic = "tiu_mac"
    eu_typ = ArithEuTyp.MAC
    operands = (
        element("opd0", "factor", narrow("opd0")),
        element("opd1", "factor, or a constant", narrow("opd1")),
        element("res0", "the sum so far: 16 bits, or bf16", _accumulator, Role.ACCUMULATE),
        RESULT,
    )

    def check_rules(self) -> None:
        super().check_rules()
        self.check_width(True, "opd0", "opd1")
        if not self.regs.opt_res_add:
            self.refuse("opt_res_add is 0; a multiply-accumulate adds to res0 (1)")

    def apart(self) -> tuple[tuple[str, str], ...]:
        return ("opd0", "res0"), ("opd1", "res0")

    def bind_int(self, state: State) -> Bound:
        regs = self.regs
        a, b = self.bytes_of(state, "opd0"), self.bytes_of(state, "opd1")
        low, high = (self.load_of(state, plane, "res0") for plane in _accumulator(self))
        accumulator, left, finish = halves(low, high), regs.opt_left_shift, self.finish_int(state, self.relu)

        def run() -> None:
            total = accumulator()
            total <<= left
            total += np.multiply(a(), b(), dtype=np.int32)
            finish(total)

        return run

    def bind_float(self, state: State) -> Bound:
        a, b, store = (
            self.patterns_of(state, "opd0"),
            self.patterns_of(state, "opd1"),
            self.store_float(state, self.relu),
        )
        total = self.load_of(state, _accumulator(self)[0], "res0")
        return lambda: store(bf16_arith.accumulated(total(), a(), b()))


class Add(Arith):
    """16-bit integers, shifted right and saturated, or bf16. The functional model has no sum of 8-bit operands, on no
    chip."""

    __slots__ = ()
    mnemonic = "tiu_add"
    eu_typ = ArithEuTyp.ADD
    operands = (
        element("opd0", "summand", wide("opd0")),
        element("opd1", "summand, or a constant", wide("opd1")),
        RESULT,
    )
    operation: ClassVar[np.ufunc] = np.add

    def check_rules(self) -> None:
        super().check_rules()
        constant = bool(self.regs.opd_typ and self.regs.opt_opd1_const)
        self.check_width(bool(self.regs.opd_typ), *(("opd0",) if constant else ("opd0", "opd1")))

    def bind_int(self, state: State) -> Bound:
        a, b = self.halves_of(state, "opd0"), self.halves_of(state, "opd1")
        finish, operation = self.finish_int(state, self.relu), self.operation
        return lambda: finish(operation(a(), b()))

    def bind_float(self, state: State) -> Bound:
        return self.bind_pairs(state, bf16_arith.sums, self.relu)


class Sub(Add):
    """As Add, with a signed result; ReLU has no effect."""

    __slots__ = ()
    mnemonic = "tiu_sub"
    eu_typ = ArithEuTyp.SUB
    operation = np.subtract

    def check_rules(self) -> None:
        super().check_rules()
        if not (self.regs.opd_typ or self.regs.opt_res0_sign):
            self.refuse("opt_res0_sign is 0; a difference is signed (1)")

    def apart(self) -> tuple[tuple[str, str], ...]:
        return (("opd0", "opd1"),)

    def bind_float(self, state: State) -> Bound:
        return self.bind_pairs(state, bf16_arith.differences, relu=False)

    @property
    def relu(self) -> bool:
        return False


class Max(Arith):
    """8-bit operands and result of one sign, or bf16; ReLU has no effect."""

    __slots__ = ()
    mnemonic = "tiu_max"
    eu_typ = ArithEuTyp.MAX
    operands = (
        element("opd0", "one", narrow("opd0")),
        element("opd1", "the other, or a constant", narrow("opd1")),
        RESULT,
    )
    operation: ClassVar[np.ufunc] = np.maximum

    def check_rules(self) -> None:
        super().check_rules()
        self.check_width(True, "opd0", "opd1", "res0")
        regs = self.regs
        if regs.opd_typ:
            return
        if regs.opt_res_shift:
            self.refuse(f"opt_res_shift is {regs.opt_res_shift}; a comparison does not shift (0)")
        if not regs.opt_opd0_sign == regs.opt_opd1_sign == regs.opt_res0_sign:
            signs = (regs.opt_opd0_sign, regs.opt_opd1_sign, regs.opt_res0_sign)
            self.refuse(f"opt_*_sign of opd0, opd1, res0 are {signs}; a comparison takes one sign")

    def apart(self) -> tuple[tuple[str, str], ...]:
        return (("opd0", "opd1"),)

    def bind_int(self, state: State) -> Bound:
        a, b = self.bytes_of(state, "opd0"), self.bytes_of(state, "opd1")
        store, operation = self.store_of(state), self.operation
        return lambda: store(operation(a(), b()))

    def bind_float(self, state: State) -> Bound:
        return self.bind_pairs(state, bf16_arith.larger, relu=False)


class Min(Max):
    """The smaller of two operands, under the rules of Max."""

    __slots__ = ()
    mnemonic = "tiu_min"
    eu_typ = ArithEuTyp.MIN
    operation = np.minimum

    def bind_float(self, state: State) -> Bound:
        return self.bind_pairs(state, bf16_arith.smaller, relu=False)


class Ge(Max):
    """a >= b as 1 or 0 (bf16 1.0 or 0.0)."""

    __slots__ = ()
    mnemonic = "tiu_ge"
    eu_typ = ArithEuTyp.GE
    operation = np.greater_equal

    def check_rules(self) -> None:
        self.require_feature("GE")
        super().check_rules()

    def bind_float(self, state: State) -> Bound:
        a, b = self.floats_of(state, "opd0"), self.floats_of(state, "opd1")
        store = self.store_of(state)

        def run() -> None:
            left, right = a(), b()
            poisoned = np.isnan(left) | np.isnan(right)
            store(np.where(poisoned, bf16.POISON, (left >= right) * bf16.ONE))

        return run


def _copied(insn: Copy) -> Tensors:
    return (insn.plane("opd0", Fmt.BF16 if insn.is_float else Fmt.U8),) if insn.is_tensor("opd0") else ()


class Copy(Arith):
    """8-bit or bf16; a bf16 copy is no copy of bits: zeros and denormals become +0, infinities and NaN the largest
    number."""

    __slots__ = ()
    mnemonic = "tiu_copy"
    eu_typ = ArithEuTyp.COPY
    num_operands = 1
    operands = (
        Operand("opd0", Role.READ, "8 bits or bf16", _copied, share=Share.ELEMENT, holds=Holds.BYTES),
        RESULT._replace(holds=Holds.BYTES),
    )

    def check_rules(self) -> None:
        super().check_rules()
        self.check_width(True, "opd0", "res0")

    def apart(self) -> tuple[tuple[str, str], ...]:
        return () if self.is_float else (("opd0", "res0"),)  # bf16 in place changes infinities and denormals

    def bind_int(self, state: State) -> Bound:
        load, store = self.bytes_of(state, "opd0"), self.store_of(state)
        if self.is_one_piece:  # one assignment reads an overlapping source whole before it writes
            return lambda: store(load())
        return lambda: store(load().copy())

    def bind_float(self, state: State) -> Bound:
        load, store = self.patterns_of(state, "opd0"), self.store_of(state)
        return lambda: store(bf16.canonical(load()))


ARITH_INSTRUCTIONS: tuple[type[Elementwise], ...] = (Mul, MulQm, Mac, Add, Sub, Max, Min, Ge, Copy)

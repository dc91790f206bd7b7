"""Tensor arithmetic: mul, mac, add, sub, max, min, shift, and, or, xor, copy, ge in 8 bit, 16 bit and bf16.

Sources: wwwuxy/cvikernel src/cv181x/tiu_*.c for the fields, sophgo/cviruntime test/181x/test_181x_*tensor_*.c for the results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound
from npusim.insn.elementwise import Elementwise, Sink, check_signs
from npusim.isa.opcodes import ArithEuTyp
from npusim.numerics import bf16
from npusim.numerics.requant import multiply_by_quantized, saturate
from npusim.numerics.toward_zero import add, rounding_toward_zero
from npusim.state import State


class Arith(Elementwise):
    """An operation that has an integer and a bf16 form, chosen by `opd_typ`."""

    __slots__ = ()

    def bind(self, state: State) -> Bound:
        self.check_shapes()
        if self.regs.opd_typ:
            return self.bind_float(state)
        check_signs(self)
        return self.bind_int(state)

    def bind_int(self, state: State) -> Bound:
        raise NotImplementedError

    def bind_float(self, state: State) -> Bound:
        raise NotImplementedError

    @property
    def relu(self) -> bool:
        return bool(self.regs.opt_relu_typ == 1)


class Mul(Arith):
    """8 x 8 bits to 8 or 16, shifted right; bf16 products are rounded once."""

    __slots__ = ()
    mnemonic = "tiu_mul"
    eu_typ = ArithEuTyp.MUL

    @classmethod
    def matches(cls, regs) -> bool:  # type: ignore[no-untyped-def]
        return super().matches(regs) and not regs.opt_chl_quan

    def bind(self, state: State) -> Bound:
        self.check_width("opd0", True)
        self.check_width("opd1", True)
        return super().bind(state)

    def bind_int(self, state: State) -> Bound:
        return self.bind_product(state, self.store_int(state, self.relu))

    def bind_product(self, state: State, finish: Sink) -> Bound:
        a = self.bytes_of(state, "opd0", self.regs.opt_opd0_sign)
        b = self.bytes_of(state, "opd1", self.regs.opt_opd1_sign)
        return lambda: finish(np.multiply(a(), b(), dtype=np.int32))

    def bind_float(self, state: State) -> Bound:
        a, b, finish = self.floats_of(state, "opd0"), self.floats_of(state, "opd1"), self.store_float(state, self.relu)

        def run() -> None:
            with np.errstate(over="ignore"):
                product = np.multiply(a(), b())
            finish(product)

        return run


class MulQm(Mul):
    """8 x 8 bits, then a 32-bit multiplier and a shift as in gemmlowp. `opd_typ` does not matter: the operands are bytes."""

    __slots__ = ()
    mnemonic = "tiu_mul_qm"

    @classmethod
    def matches(cls, regs) -> bool:  # type: ignore[no-untyped-def]
        return Elementwise.matches.__func__(cls, regs) and bool(regs.opt_chl_quan)  # type: ignore[attr-defined]

    def bind(self, state: State) -> Bound:
        self.check_shapes()
        self.check_width("opd0", True)
        self.check_width("opd1", True)
        regs = self.regs
        if not regs.opd_typ:
            check_signs(self)
        multiplier = (regs.quan_m ^ 1 << 31) - (1 << 31)
        # A 6-bit shift of 32 and more is a negative right shift, which is done in front of the multiplier in 32 bits (QM_LSHIFT).
        left, right = (64 - regs.opt_res_shift & 31, 0) if regs.opt_res_shift & 32 else (0, regs.opt_res_shift)
        bits, signed, relu = 8 if regs.opt_res0_seg else 16, bool(regs.opt_res0_sign), self.relu
        write = self.writer(state)

        def finish(values: NDArray) -> None:
            scaled = multiply_by_quantized(values << left if left else values, multiplier, right)
            write(saturate(np.maximum(scaled, 0) if relu else scaled, bits, signed))

        return self.bind_product(state, finish)


class Mac(Arith):
    """res0 = ((res0 << opt_left_shift) + a * b) >> opt_res_shift in 32 bits that wrap; res0 comes in as 16 bits.

    In bf16 the product is exact, the sum rounds toward zero, and res0 is read with its denormals.
    """

    __slots__ = ()
    mnemonic = "tiu_mac"
    eu_typ = ArithEuTyp.MAC

    def bind(self, state: State) -> Bound:
        if not self.regs.opt_res_add:
            self.refuse("opt_res_add is 0; a multiply-accumulate adds to res0 (1)")
        self.check_width("opd0", True)
        self.check_width("opd1", True)
        return super().bind(state)

    def bind_int(self, state: State) -> Bound:
        regs = self.regs
        a = self.bytes_of(state, "opd0", regs.opt_opd0_sign)
        b = self.bytes_of(state, "opd1", regs.opt_opd1_sign)
        low = self.load_of(state, "res0", np.uint8)
        high = self.load_of(state, "res0", np.int8 if regs.opt_res0_sign else np.uint8, regs.res0_b_str)
        left, finish = regs.opt_left_shift, self.store_int(state, self.relu)

        def run() -> None:
            total = np.left_shift(high(), 8, dtype=np.int32)
            total |= low()
            total <<= left
            total += np.multiply(a(), b(), dtype=np.int32)
            finish(total)

        return run

    def bind_float(self, state: State) -> Bound:
        a, b, finish = self.floats_of(state, "opd0"), self.floats_of(state, "opd1"), self.store_float(state, self.relu)
        accumulator = self.load_of(state, "res0", np.uint16)

        def run() -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                product = bf16.flush(np.multiply(a(), b()))
                with rounding_toward_zero():
                    total = add(bf16.to_float_with_denormals(accumulator()), product)
            finish(total)

        return run


class Add(Arith):
    """16-bit integers, shifted right and saturated; bf16. The functional model has no sum of 8-bit operands on any chip."""

    __slots__ = ()
    mnemonic = "tiu_add"
    eu_typ = ArithEuTyp.ADD
    operation: ClassVar[np.ufunc] = np.add
    has_relu: ClassVar[bool] = True

    def bind(self, state: State) -> Bound:
        self.check_width("opd0", bool(self.regs.opd_typ))
        self.check_width("opd1", bool(self.regs.opd_typ))
        return super().bind(state)

    def bind_int(self, state: State) -> Bound:
        a = self.halves_of(state, "opd0", self.regs.opt_opd0_sign)
        b = self.halves_of(state, "opd1", self.regs.opt_opd1_sign)
        finish, operation = self.store_int(state, self.relu and self.has_relu), self.operation
        return lambda: finish(operation(a(), b()))

    def bind_float(self, state: State) -> Bound:
        a, b = self.floats_of(state, "opd0"), self.floats_of(state, "opd1")
        finish, operation = self.store_float(state, self.relu and self.has_relu), self.operation

        def run() -> None:
            # No rounding mode is needed: the float32 sum of two bf16 is exact, or so near the larger one that it rounds to that.
            with np.errstate(over="ignore"):
                total = operation(a(), b())
            finish(total)

        return run


class Sub(Add):
    """As Add, with a signed result; ReLU has no effect."""

    __slots__ = ()
    mnemonic = "tiu_sub"
    eu_typ = ArithEuTyp.SUB
    operation = np.subtract
    has_relu = False

    def bind_int(self, state: State) -> Bound:
        if not self.regs.opt_res0_sign:
            self.refuse("opt_res0_sign is 0; a difference is signed (1)")
        return super().bind_int(state)


class Max(Arith):
    """8-bit operands and result of one sign, or bf16; ReLU has no effect."""

    __slots__ = ()
    mnemonic = "tiu_max"
    eu_typ = ArithEuTyp.MAX
    operation: ClassVar[np.ufunc] = np.maximum

    def bind(self, state: State) -> Bound:
        for name in ("opd0", "opd1", "res0"):
            self.check_width(name, True)
        return super().bind(state)

    def bind_int(self, state: State) -> Bound:
        self.check_comparison()
        sign, operation = self.regs.opt_res0_sign, self.operation
        a, b = self.bytes_of(state, "opd0", sign), self.bytes_of(state, "opd1", sign)
        store = self.store_of(state, np.uint8)
        return lambda: store(operation(a(), b()))

    def check_comparison(self) -> None:
        regs = self.regs
        if regs.opt_res_shift:
            self.refuse(f"opt_res_shift is {regs.opt_res_shift}; a comparison does not shift (0)")
        if not regs.opt_opd0_sign == regs.opt_opd1_sign == regs.opt_res0_sign:
            signs = (regs.opt_opd0_sign, regs.opt_opd1_sign, regs.opt_res0_sign)
            self.refuse(f"opt_*_sign of opd0, opd1, res0 are {signs}; a comparison takes one sign")

    def bind_float(self, state: State) -> Bound:
        a, b = self.floats_of(state, "opd0"), self.floats_of(state, "opd1")
        finish, operation = self.store_float(state, relu=False), self.operation
        return lambda: finish(operation(a(), b()))


class Min(Max):
    __slots__ = ()
    mnemonic = "tiu_min"
    eu_typ = ArithEuTyp.MIN
    operation = np.minimum


class Ge(Max):
    """a >= b as 1 or 0 (bf16 1.0 or 0.0)."""

    __slots__ = ()
    mnemonic = "tiu_ge"
    eu_typ = ArithEuTyp.GE
    operation = np.greater_equal

    def bind(self, state: State) -> Bound:
        self.require_feature("GE")
        return super().bind(state)

    def bind_float(self, state: State) -> Bound:
        a, b = self.floats_of(state, "opd0"), self.floats_of(state, "opd1")
        store = self.store_of(state, np.uint16)

        def run() -> None:
            left, right = a(), b()
            poisoned = np.isnan(left) | np.isnan(right)
            store(np.where(poisoned, bf16.POISON, (left >= right) * bf16.ONE))

        return run


class ArithShift(Elementwise):
    """16-bit opd0 by the signed 8-bit count in opd1: left wraps, right (negative counts) floors. `opd_typ` does not matter."""

    __slots__ = ()
    mnemonic = "tiu_arith_shift"
    eu_typ = ArithEuTyp.SHIFT

    def bind(self, state: State) -> Bound:
        self.check_shapes()
        regs = self.regs
        self.check_width("opd0", False)
        self.check_width("opd1", True)
        if not regs.opd_typ:
            check_signs(self)
        if regs.opt_res_shift or regs.opt_rshift_typ:
            self.refuse(f"opt_res_shift is {regs.opt_res_shift} and opt_rshift_typ {regs.opt_rshift_typ}; a shift's own count rules (0, 0)")
        if regs.opt_shift_typ != regs.opt_opd0_sign:
            self.refuse(f"opt_shift_typ is {regs.opt_shift_typ}; it must be opt_opd0_sign, {regs.opt_opd0_sign}")
        if not regs.opt_opd1_sign:
            self.refuse("opt_opd1_sign is 0; shift counts are signed (1)")
        values, counts = self.halves_of(state, "opd0", regs.opt_opd0_sign), self.bytes_of(state, "opd1", 1)
        low, high = self.store_of(state, np.uint8), self.store_of(state, np.uint8, self.plane_distance("res0"))

        def run() -> None:
            count = counts().astype(np.int32)
            worst = int(np.abs(count).max())
            if worst > 16:
                self.refuse(f"opd1 holds a shift count of magnitude {worst}; the limit is 16")
            value = values()
            shifted = (value << np.maximum(count, 0)) >> np.maximum(-count, 0)
            low(shifted)
            high(shifted >> 8)

        return run


class Bitwise(Elementwise):
    """8 or 16 bits, unsigned. `opd_typ` does not matter."""

    __slots__ = ()
    operation: ClassVar[np.ufunc]

    def bind(self, state: State) -> Bound:
        self.check_shapes()
        regs = self.regs
        if not regs.opt_res0_seg == regs.opt_opd0_seg == regs.opt_opd1_seg:
            segs = (regs.opt_res0_seg, regs.opt_opd0_seg, regs.opt_opd1_seg)
            self.refuse(f"opt_*_seg of res0, opd0, opd1 are {segs}; a bitwise operation takes one width")
        if regs.opt_opd0_sign or regs.opt_opd1_sign or regs.opt_res0_sign:
            self.refuse("a bitwise operation's operands and result are unsigned (opt_*_sign 0)")
        if not regs.opd_typ:
            check_signs(self)
        planes = [self.bind_plane(state, 0, 0, 0)]
        if not regs.opt_res0_seg:
            planes.append(self.bind_plane(state, *(self.plane_distance(name) for name in ("opd0", "opd1", "res0"))))

        def run() -> None:
            results = [(store, compute()) for compute, store in planes]
            for store, values in results:
                store(values)

        return run

    def bind_plane(self, state: State, opd0: int, opd1: int, res0: int) -> tuple[Callable[[], NDArray], Sink]:
        """What computes one plane of bytes, so many bytes behind each operand's address, and what stores it."""
        a, b, operation = self.bytes_of(state, "opd0", 0, opd0), self.bytes_of(state, "opd1", 0, opd1), self.operation
        return lambda: operation(a(), b()), self.store_of(state, np.uint8, res0)


class And(Bitwise):
    __slots__ = ()
    mnemonic = "tiu_and"
    eu_typ = ArithEuTyp.AND
    operation = np.bitwise_and


class Or(Bitwise):
    __slots__ = ()
    mnemonic = "tiu_or"
    eu_typ = ArithEuTyp.OR
    operation = np.bitwise_or


class Xor(Bitwise):
    __slots__ = ()
    mnemonic = "tiu_xor"
    eu_typ = ArithEuTyp.XOR
    operation = np.bitwise_xor


class Copy(Arith):
    """8-bit or bf16; a bf16 copy is no copy of bits: zeros and denormals become +0, infinities and NaN the largest number."""

    __slots__ = ()
    mnemonic = "tiu_copy"
    eu_typ = ArithEuTyp.COPY
    num_operands = 1

    def bind(self, state: State) -> Bound:
        self.check_width("opd0", True)
        self.check_width("res0", True)
        return super().bind(state)

    def bind_int(self, state: State) -> Bound:
        load, store = self.bytes_of(state, "opd0", 0), self.store_of(state, np.uint8)
        if self._is_one_piece:  # one assignment reads an overlapping source whole before it writes
            return lambda: store(load())
        return lambda: store(load().copy())

    def bind_float(self, state: State) -> Bound:
        load, store = self.patterns_of(state, "opd0"), self.store_of(state, np.uint16)
        return lambda: store(bf16.canonical(load()))


ARITH_INSTRUCTIONS: tuple[type[Elementwise], ...] = (Mul, MulQm, Mac, Add, Sub, Max, Min, Ge, ArithShift, And, Or, Xor, Copy)

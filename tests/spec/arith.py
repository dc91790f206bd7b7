"""Scalar twins of the integer TIU operations: one element, plain ints.

`relu` and the shift are those of the descriptor."""

from __future__ import annotations

from dataclasses import dataclass

from tests.spec.requant import multiply_by_quantized, saturate, shift_right, wrap


@dataclass(frozen=True)
class Finish:
    """What happens to the exact result of an operation."""

    bits: int = 8
    signed: bool = True
    shift: int = 0
    rounding: bool = True
    arithmetic: bool = True
    relu: bool = False

    def __call__(self, value: int) -> int:
        value = wrap(value, 32)
        if self.shift and not self.arithmetic:
            value %= 1 << 32
        value = shift_right(value, self.shift, self.rounding)
        return saturate(max(value, 0) if self.relu else value, self.bits, self.signed)


def mul(a: int, b: int, finish: Finish) -> int:
    return finish(a * b)


def mac(a: int, b: int, accumulator: int, left_shift: int, finish: Finish) -> int:
    return finish(wrap(accumulator << left_shift, 32) + a * b)


def mul_qm(a: int, b: int, multiplier: int, shift: int, finish: Finish) -> int:
    """`shift` is the 6-bit field: 32 to 63 are left shifts by 64 - shift (of which 32 has no effect), in 32 bits."""
    product = a * b if shift < 32 else wrap(a * b << (64 - shift) % 32, 32)
    scaled = multiply_by_quantized(product, multiplier, shift if shift < 32 else 0)
    return saturate(max(scaled, 0) if finish.relu else scaled, finish.bits, finish.signed)


def arith_shift(value: int, count: int) -> int:
    """The 16-bit pattern of `value` shifted left by `count`, or right where that is negative."""
    return (value << count if count >= 0 else value >> -count) & 0xFFFF

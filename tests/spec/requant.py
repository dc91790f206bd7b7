"""Scalar twin of npusim.numerics.requant, in plain ints.

The quantised multiplier goes step by step, as in gemmlowp's C."""

from __future__ import annotations


def saturate(value: int, bits: int, signed: bool) -> int:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return min(max(value, low), high)


def shift_right(value: int, bits: int, rounding: bool) -> int:
    if bits and rounding:
        value += 1 << (bits - 1)
    return value >> bits


def wrap(value: int, bits: int) -> int:
    """Two's complement of `bits` bits."""
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def rounding_doubling_high_mul(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul, but -2^31 times itself wraps as in the functional model."""
    product = a * b
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    return wrap(_divide_toward_zero(product + nudge, 1 << 31), 32)


def rounding_divide_by_pot(value: int, exponent: int) -> int:
    """RoundingDivideByPOT."""
    mask = (1 << exponent) - 1
    remainder = value & mask
    threshold = (mask >> 1) + (1 if value < 0 else 0)
    return (value >> exponent) + (1 if remainder > threshold else 0)


def multiply_by_quantized(value: int, multiplier: int, shift: int) -> int:
    return rounding_divide_by_pot(rounding_doubling_high_mul(value, multiplier), shift)


def _divide_toward_zero(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)

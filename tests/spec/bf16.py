"""Scalar twin of npusim.numerics.bf16 and of the TIU's bf16 operations: exact rationals, one element at a time.

Poison (an operand with exponent 255, or an overflow) is None.
"""

from __future__ import annotations

from fractions import Fraction

POISON_PATTERN = 0x7F7F
SMALLEST_NORMAL = Fraction(1, 2**126)
ONE = 0x3F80

Value = Fraction | None


def read(pattern: int) -> Value:
    """What the TIU sees in a bf16 pattern."""
    if pattern & 0x7F80 == 0:
        return Fraction(0)
    return read_accumulator(pattern)


def read_accumulator(pattern: int) -> Value:
    """What a multiply-accumulate sees in res0: denormals count."""
    sign, exponent, fraction = -1 if pattern >> 15 else 1, pattern >> 7 & 0xFF, pattern & 0x7F
    if exponent == 255:
        return None
    significand = fraction | (128 if exponent else 0)
    return sign * Fraction(significand) * Fraction(2) ** (max(exponent, 1) - 127 - 7)


def write(value: Value) -> int:
    """Rounds to nearest even and encodes."""
    if value is None:
        return POISON_PATTERN
    if abs(value) < SMALLEST_NORMAL:
        return 0
    exponent = _exponent(abs(value))
    significand = round(abs(value) / Fraction(2) ** (exponent - 7))  # Python rounds halves to even
    if significand == 256:
        significand, exponent = 128, exponent + 1
    if exponent > 127:
        return POISON_PATTERN
    return (0x8000 if value < 0 else 0) | (exponent + 127) << 7 | (significand - 128)


def toward_zero(value: Value) -> Value:
    """`value` cut to the 24 bits of a float32; below the smallest normal it is 0, from 2^128 on poison."""
    if value is None or abs(value) >= 2**128:
        return None
    if abs(value) < SMALLEST_NORMAL:
        return Fraction(0)
    unit = Fraction(2) ** (_exponent(abs(value)) - 23)
    return (1 if value > 0 else -1) * (abs(value) // unit) * unit


def mul(a: int, b: int, relu: bool = False) -> int:
    x, y = read(a), read(b)
    return _relu(write(None if x is None or y is None else x * y), relu)


def add(a: int, b: int, relu: bool = False) -> int:
    x, y = read(a), read(b)
    return _relu(write(toward_zero(None if x is None or y is None else x + y)), relu)


def sub(a: int, b: int, relu: bool = False) -> int:
    """ReLU has no effect."""
    return add(a, b ^ 0x8000)


def mac(a: int, b: int, accumulator: int, relu: bool = False) -> int:
    x, y, z = read(a), read(b), read_accumulator(accumulator)
    if x is None or y is None or z is None or abs(x * y) >= 2**128:
        return POISON_PATTERN
    return _relu(write(toward_zero(z + toward_zero(x * y))), relu)  # type: ignore[operator]


def maximum(a: int, b: int) -> int:
    x, y = read(a), read(b)
    return write(None if x is None or y is None else max(x, y))


def minimum(a: int, b: int) -> int:
    x, y = read(a), read(b)
    return write(None if x is None or y is None else min(x, y))


def greater_equal(a: int, b: int) -> int:
    x, y = read(a), read(b)
    if x is None or y is None:
        return POISON_PATTERN
    return ONE if x >= y else 0


def copy(a: int) -> int:
    return write(read(a))


def _relu(pattern: int, relu: bool) -> int:
    return 0 if relu and pattern & 0x8000 else pattern


def _exponent(magnitude: Fraction) -> int:
    """floor(log2(magnitude)), exactly."""
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return exponent if Fraction(2) ** exponent <= magnitude else exponent - 1

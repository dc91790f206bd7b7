"""Scalar twins of npusim.numerics.convert, in plain Python integers."""

from __future__ import annotations


def whole_of(pattern: int, toward_zero: bool) -> int:
    """|x| of a finite bf16 `pattern` as an integer, rounded to nearest even or toward zero."""
    exponent, fraction = pattern >> 7 & 0xFF, pattern & 0x7F
    significand = fraction if exponent == 0 else 128 + fraction
    shift = max(exponent, 1) - 127 - 7
    if shift >= 0:
        return significand << shift
    if shift < -9:  # below a quarter
        return 0
    whole, rest, half = significand >> -shift, significand & (1 << -shift) - 1, 1 << -shift - 1
    return whole + (not toward_zero and (rest > half or (rest == half and whole % 2 == 1)))


def int8_from_bf16(pattern: int, signed: bool, toward_zero: bool, vanish_exponent: int | None) -> int:
    """The byte of a bf16 number's integer: rounded to nearest even or toward zero, then saturated."""
    low, high = (-128, 127) if signed else (0, 255)
    negative, infinite_or_nan = bool(pattern & 0x8000), pattern & 0x7F80 == 0x7F80
    limit = low if negative else high
    if infinite_or_nan:
        vanishes = vanish_exponent is not None and pattern & 0x7F == 0
        return 0 if vanishes else limit & 0xFF
    whole = whole_of(pattern, toward_zero)
    if vanish_exponent is not None and whole >= 1 << vanish_exponent:
        return 0
    return min(max(-whole if negative else whole, low), high) & 0xFF


def bf16_from_int8(byte: int, signed: bool) -> int:
    """The bf16 pattern of a byte's value; 8 bits of significand hold every one."""
    value = byte - 256 if signed and byte >= 128 else byte
    if value == 0:
        return 0
    exponent = abs(value).bit_length() - 1
    fraction = (abs(value) << 7 >> exponent) & 0x7F
    return (value < 0) << 15 | exponent + 127 << 7 | fraction


def lut_index_from_bf16(pattern: int) -> int:
    """floor(log2 |x|) + 63, 128 further for negative x, in 8 bits, in both bytes; 0 for 0.

    Infinity and NaN count as 1."""
    exponent, fraction = pattern >> 7 & 0xFF, pattern & 0x7F
    if exponent == 0 and fraction == 0:
        return 0
    log2 = fraction.bit_length() - 1 - 133 if exponent == 0 else 0 if exponent == 255 else exponent - 127
    return (log2 + 63 + (128 if pattern & 0x8000 else 0)) % 256 * 0x101

"""Integer results: shift, round, saturate, and the 32-bit quantised multiplier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LARGE = 1 << 13
"""From so many elements on, ndarray.clip is faster than minimum and maximum, whose calls cost less."""


def saturate(values: NDArray, bits: int, signed: bool) -> NDArray:
    """Clips `values` to a `bits`-wide integer, in place."""
    return _clip(values, *limits(bits, signed))


def limits(bits: int, signed: bool) -> tuple[int, int]:
    """The smallest and the largest integer of `bits` bits."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _clip(values: NDArray, low: int, high: int) -> NDArray:
    if values.size >= _LARGE:
        return values.clip(low, high, out=values)
    return np.maximum(np.minimum(values, high, out=values), low, out=values)


def rectify(values: NDArray) -> NDArray:
    """Makes negative `values` 0, in place."""
    return np.maximum(values, 0, out=values)


def shift_right(values: NDArray, bits: int, rounding: bool) -> NDArray:
    """Arithmetic right shift, in place.

    Rounds half up with `rounding` (opt_rshift_typ 1), negative values too; without it, rounds down."""
    if bits and rounding:
        values >>= bits - 1
        values += 1  # adding half before the shift could overflow
        bits = 1
    if bits:
        values >>= bits
    return values


def rounding_doubling_high_mul(values: NDArray, multiplier: NDArray[np.int64] | int) -> NDArray[np.int32]:
    """gemmlowp's SaturatingRoundingDoublingHighMul of 32-bit values: round(values * multiplier / 2^31).

    Only its one overflow differs: (-2^31)^2 wraps to -2^31 in the functional model, where gemmlowp saturates. The C
    original adds a nudge of the product's sign and truncates, which rounds half up."""
    product = np.multiply(values, multiplier, dtype=np.int64)
    return ((product + (1 << 30)) >> 31).astype(np.int32)


def rounding_divide_by_pot(values: NDArray, exponent: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """gemmlowp's RoundingDivideByPOT: values / 2^exponent, to nearest, ties away from zero.

    Exponents of 32 and more occur only in a program that reads a wrong byte. For them the result is that of the C
    original on x86: the mask is the low half of a 64-bit one, and the shift counts modulo 32."""
    if np.max(exponent) < 32:
        half = np.left_shift(np.int64(1), exponent) >> 1
        return (values + half - ((values < 0) & (half > 0))) >> exponent
    exponent = np.asarray(exponent, np.int64)
    mask = (np.left_shift(np.int64(1), exponent & 63) - 1).astype(np.int32)
    threshold = (mask >> 1) + (values < 0)
    return (values >> (exponent & 31)) + ((values & mask) > threshold)


def multiply_by_quantized(
    values: NDArray, multiplier: NDArray[np.int64] | int, shift: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    """The chip's quantised multiplier: SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT.

    Returns a new array."""
    if np.min(multiplier) == -(1 << 31) or np.max(shift) > 31:
        return rounding_divide_by_pot(rounding_doubling_high_mul(values, multiplier), shift)
    product: NDArray[np.int64] = np.multiply(values, multiplier, dtype=np.int64)
    product += 1 << 30
    product >>= 31
    half = np.left_shift(np.int64(1), shift) >> 1
    away = product >> 63
    if not np.all(half):
        away *= half > 0
    product += away
    product += half
    product >>= shift
    return product


def split_shift(field: NDArray[np.int64] | int, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(left, right) shifts from a shift count: its lowest `bits` in two's complement, negative to the left.

    Both count modulo 32."""
    sign = 1 << (bits - 1)
    signed = ((np.asarray(field, np.int64) & (2 * sign - 1)) ^ sign) - sign
    return np.maximum(-signed, 0) & 31, np.maximum(signed, 0)

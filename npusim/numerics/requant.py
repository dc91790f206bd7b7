"""Integer results: shift, round, saturate, and the 32-bit quantised multiplier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def saturate(values: NDArray, bits: int, signed: bool) -> NDArray:
    """`values` clipped to a `bits`-wide integer."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return np.maximum(np.minimum(values, high), low)  # half the overhead of np.clip


def shift_right(values: NDArray, bits: int, rounding: bool) -> NDArray:
    """Arithmetic right shift: half up where `rounding` (opt_rshift_typ 1, also for negative values), else floor."""
    if bits == 0:
        return values
    if not rounding:
        return values >> bits
    return ((values >> (bits - 1)) + 1) >> 1  # adding half in front of the shift could overflow


def rounding_doubling_high_mul(values: NDArray, multiplier: NDArray[np.int64] | int) -> NDArray[np.int32]:
    """gemmlowp's SaturatingRoundingDoublingHighMul of 32-bit values, round(values * multiplier / 2^31), but for its one overflow.

    (-2^31)^2 wraps to -2^31 in the functional model where gemmlowp saturates. The C original adds a nudge of the product's sign and
    truncates, which is half up.
    """
    product = np.multiply(values, multiplier, dtype=np.int64)
    return ((product + (1 << 30)) >> 31).astype(np.int32)


def rounding_divide_by_pot(values: NDArray, exponent: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """gemmlowp's RoundingDivideByPOT: values / 2^exponent, to nearest, ties away from zero.

    For exponents of 32 and more, which only a program that reads a wrong byte has, the result is the C original's on x86: the mask is the
    low half of a 64-bit one and the shift counts modulo 32.
    """
    if np.max(exponent) < 32:
        half = np.left_shift(np.int64(1), exponent) >> 1
        return (values + half - ((values < 0) & (half > 0))) >> exponent
    exponent = np.asarray(exponent, np.int64)
    mask = (np.left_shift(np.int64(1), exponent & 63) - 1).astype(np.int32)
    threshold = (mask >> 1) + (values < 0)
    return (values >> (exponent & 31)) + ((values & mask) > threshold)


def multiply_by_quantized(values: NDArray, multiplier: NDArray | int, shift: NDArray | int) -> NDArray[np.int64]:
    """The chip's quantised multiplier: SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT."""
    return rounding_divide_by_pot(rounding_doubling_high_mul(values, multiplier), shift)

"""Integer results: shift, round, saturate, and the 32-bit quantised multiplier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def saturate(values: NDArray, bits: int, signed: bool) -> NDArray:
    """`values` clipped to a `bits`-wide integer."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return np.clip(values, low, high)


def shift_right(values: NDArray, bits: int, rounding: bool) -> NDArray:
    """Arithmetic right shift: half up where `rounding` (opt_rshift_typ 1, also for negative values), else floor."""
    if bits == 0:
        return values
    if not rounding:
        return values >> bits
    return ((values >> (bits - 1)) + 1) >> 1  # adding half in front of the shift could overflow


def rounding_doubling_high_mul(values: NDArray[np.int64], multiplier: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """gemmlowp's SaturatingRoundingDoublingHighMul of 32-bit values: round(values * multiplier / 2^31), saturated to int32.

    The one overflow, (-2^31)^2, gives 2^31 - 1. Division truncates toward zero behind a nudge, as the C original does.
    """
    product = values.astype(np.int64) * multiplier
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    total = product + nudge
    quotient = np.where(total >= 0, total >> 31, -((-total) >> 31))
    return np.minimum(quotient, (1 << 31) - 1)


def rounding_divide_by_pot(values: NDArray[np.int64], exponent: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """gemmlowp's RoundingDivideByPOT: values / 2^exponent, to nearest, ties away from zero."""
    exponent = np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    remainder = values & mask
    threshold = (mask >> 1) + (values < 0)
    return (values >> exponent) + (remainder > threshold)


def multiply_by_quantized(values: NDArray[np.int64], multiplier: NDArray | int, shift: NDArray | int) -> NDArray[np.int64]:
    """The chip's quantised multiplier: SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT."""
    return rounding_divide_by_pot(rounding_doubling_high_mul(values, multiplier), shift)

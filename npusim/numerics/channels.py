"""Requantisation by channel: bias, multiplier and shift from packed records, saturation to 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from npusim.numerics.backend import kernel
from npusim.numerics.requant import multiply_by_quantized, split_shift

I64 = NDArray[np.int64]
_BLOCK = 1 << 15
"""Elements that take all steps together, so that they stay in a processor's cache."""
_TIE = 2.0**-32
"""On top of multiples of 2^-31, lets ties round up and changes no other rounding."""
_EXACT = 1 << 20
"""Biases below this leave room for _TIE in float64."""
_MOST_SHIFT = 12
_AWAY = 1 + 2.0**-40
"""On a divisor, lets ties round away from zero and changes no other rounding."""
_DIVISORS = np.exp2(-np.arange(_MOST_SHIFT + 1.0)) * _AWAY
"""By right shift."""
_NO_WRAP = 1 << 30
"""Sums and biases below this do not leave 32 bits together."""
_FIELDS = {
    has_bias: np.dtype([("bias", "<i4")] * has_bias + [("multiplier", "<i4"), ("shift", "u1")])
    for has_bias in (False, True)
}


def record_bytes(has_bias: bool) -> int:
    """Of a channel: bias (4, if there is one), multiplier (4), shift (1)."""
    return _FIELDS[has_bias].itemsize


@kernel
def quantize_channels(
    sums: NDArray, records: NDArray[np.uint8], shift_bits: int, low: int, high: int
) -> NDArray[np.uint8]:
    """Sums (n, c, h, w), integers in int32, or in float32 that holds them, as 8 bits between `low` and `high`.

    `records` has record_bytes for each of the channels, of whose shift `shift_bits` count. The bias is added and the
    left shift made within 32 bits; then come the multiplier and the right shift of multiply_by_quantized."""
    n, c, h, w = sums.shape
    packed, has_bias = records.tobytes(), records.size > c * record_bytes(False)
    steps = _steps(packed, has_bias, shift_bits, sums.dtype == np.float32)
    if steps is None or (sums.dtype != np.float32 and not -_NO_WRAP < sums.min() <= sums.max() < _NO_WRAP):
        return _quantize_widely(sums, np.frombuffer(packed, _FIELDS[has_bias]), shift_bits, low, high)
    finish, constants = steps
    result = np.empty(sums.shape, np.int8 if low < 0 else np.uint8)
    count = max(1, _BLOCK // (h * w))
    for first in range(0, c, count):
        part = slice(first, first + count)
        for image in range(n):
            values = finish(sums[image, part].reshape(-1, h * w), constants[:, part], low >= 0)
            values.clip(low, high, out=values)
            result[image, part] = values.reshape(-1, h, w)
    return result.view(np.uint8)


def scaled_in_float64(sums: NDArray, multiplier: int, right: int) -> NDArray[np.float64]:
    """multiply_by_quantized of integers below 2^20, of which all steps are multiples of 2^-32 that float64 holds."""
    return _in_float64(sums, (multiplier * 2.0**-31, _TIE, 2.0**-right * _AWAY), False)


def _in_float64(sums: NDArray, constants: Iterable[NDArray | float], relu: bool) -> NDArray[np.float64]:
    """Sums (c, count) that float32 holds behind multiplier and right shifts of up to _MOST_SHIFT, not yet saturated.

    What is 2^21 or more before the shift may be rounded, but saturates. The rest are multiples of 2^-31, held whole."""
    factor, offset, divisor = constants
    values = sums.astype(np.float64)
    values *= factor
    values += offset
    np.rint(values, out=values)
    values *= divisor
    return np.rint(values, out=values)


def _in_int64(sums: NDArray, constants: NDArray, relu: bool) -> NDArray:
    """The same of sums below _NO_WRAP, for right shifts from 1 to 31. With `relu`, negative results are any negative
    numbers.

    floor((floor(x / 2^31) + half) / 2^right) is floor((x + half * 2^31) / 2^(31 + right))."""
    multiplier, offset, half, shift = constants
    values = sums.astype(np.int64)
    values *= multiplier
    values += offset
    if not relu:  # ties of what is negative go away from zero
        away = values >> 63
        away <<= 31
        values += away
    values += half
    values >>= shift
    return values


@lru_cache(4096)
def _steps(
    packed: bytes, has_bias: bool, shift_bits: int, is_float: bool
) -> tuple[Callable[[NDArray, NDArray, bool], NDArray], NDArray] | None:
    """One of the two functions above that is exact, with its constants, each of shape (c, 1)."""
    record = np.frombuffer(packed, _FIELDS[has_bias])
    bias = record["bias"] if has_bias else np.zeros(1, np.int32)
    shift, count = record["shift"], len(record)
    if is_float and shift.max() <= _MOST_SHIFT and -_EXACT < bias.min() <= bias.max() < _EXACT:
        floats = np.empty((3, count, 1))
        factor, offset, divisor = floats[..., 0]
        np.multiply(record["multiplier"], 2.0**-31, out=factor)
        np.multiply(factor, bias, out=offset)
        offset += _TIE
        _DIVISORS.take(shift, out=divisor)
        return _in_float64, floats
    shift = _plain_shifts(shift_bits).take(shift)
    if shift.min() < 1 or not -_NO_WRAP < bias.min() <= bias.max() < _NO_WRAP:
        return None
    integers = np.empty((4, count, 1), np.int64)
    integers[0, :, 0] = record["multiplier"]
    np.multiply(integers[0, :, 0], bias, out=integers[1, :, 0])
    integers[1] += 1 << 30
    np.left_shift(1 << 30, shift, out=integers[2, :, 0])
    np.add(shift, 31, out=integers[3, :, 0])
    return _in_int64, integers


@cache
def _plain_shifts(shift_bits: int) -> I64:
    """Right shifts from 1 to 31 by the byte of a record; 0 for all others."""
    left, right = split_shift(np.arange(256), shift_bits)
    return np.where((left > 0) | (right > 31), 0, right)


def _quantize_widely(sums: NDArray, record: NDArray, shift_bits: int, low: int, high: int) -> NDArray[np.uint8]:
    left, right = (shift[:, None, None] for shift in split_shift(record["shift"], shift_bits))
    values = sums.astype(np.int32)
    if record.itemsize == record_bytes(True):
        values += record["bias"][:, None, None]
    values <<= left.astype(np.int32)
    result = multiply_by_quantized(values, record["multiplier"].astype(np.int64)[:, None, None], right)
    return result.clip(low, high).astype(np.uint8)

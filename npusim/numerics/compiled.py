"""The kernels that `backend` names, compiled by Numba. NumPy's are what is right; these give the same bits, or decline.

Sums toward zero rely on the processor's rounding mode, as NumPy's do. What Numba makes is kept in the user's cache
folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from npusim.numerics.backend import DECLINED
from npusim.numerics.compiled_bf16 import BF16_KERNELS
from npusim.numerics.compiling import compiled as _compile

F32 = NDArray[np.float32]


@_compile
def _from_float(bits: Any, patterns: Any) -> None:
    for i in range(bits.size):
        magnitude = bits[i] & np.uint32(0x7FFFFFFF)
        rounded = np.uint32(bits[i] + np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1)))
        pattern = np.uint16(rounded >> np.uint32(16))
        pattern = pattern if magnitude < np.uint32(0x7F7F8000) else np.uint16(0x7F7F)
        patterns[i] = pattern if magnitude >= np.uint32(0x00800000) else np.uint16(0)


def from_float(values: F32) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    patterns = np.empty(bits.shape, np.uint16)
    _from_float(bits.reshape(-1), patterns.reshape(-1))
    return patterns


@_compile
def _to_float(patterns: Any, values: Any) -> None:
    for i in range(patterns.size):
        exponent = patterns[i] & np.uint16(0x7F80)
        bits = np.uint32(np.uint32(patterns[i]) << np.uint32(16))
        bits = bits if exponent else np.uint32(0)
        values[i] = bits if exponent != np.uint16(0x7F80) else np.uint32(0x7FC00000)


def to_float(patterns: NDArray[np.uint16]) -> F32:
    bits = np.empty(patterns.shape, np.uint32)
    _to_float(np.ascontiguousarray(patterns).reshape(-1), bits.reshape(-1))
    return bits.view(np.float32)


@numba.njit(inline="always")
def _int32(octets: Any, first: Any) -> Any:
    """The little-endian number that begins at `first`."""
    number = np.uint32(0)
    for i in range(4):
        number |= np.uint32(octets[first + i]) << np.uint32(8 * i)
    return np.int64(np.int32(number))


@_compile
def _quantize_channels(sums: Any, records: Any, sign: Any, limits: Any, result: Any) -> None:
    low, high = limits
    last = records.shape[1] - 1
    for c in range(sums.shape[1]):
        bias = _int32(records[c], 0) if last > 4 else np.int64(0)
        factor, shift = _int32(records[c], last - 4), np.int64(records[c, last])
        shift = ((shift & (2 * sign - 1)) ^ sign) - sign
        left, right = max(-shift, 0) & 31, max(shift, 0) & 31
        half = np.int64(1) << right >> np.int64(1)
        away = np.int64(half > 0)
        for n in range(sums.shape[0]):
            for i in range(sums.shape[2]):
                value = np.int64(np.int32((np.int64(sums[n, c, i]) + bias) << left))
                value = np.int64(np.int32((value * factor + np.int64(1 << 30)) >> np.int64(31)))
                value = (value + half - (away & np.int64(value < 0))) >> right
                result[n, c, i] = np.uint8(min(max(value, low), high) & 255)


def quantize_channels(sums: NDArray, records: NDArray[np.uint8], shift_bits: int, low: int, high: int) -> Any:
    n, c = sums.shape[:2]
    if not sums.size:
        return DECLINED
    records = np.ascontiguousarray(records).reshape(c, -1)
    if shift_bits > 6 and (records[:, -1].astype(np.int8) > 31).any():
        return DECLINED
    flat = np.ascontiguousarray(sums).reshape(n, c, -1)
    result = np.empty(flat.shape, np.uint8)
    _quantize_channels(flat, records, 1 << (shift_bits - 1), (low, high), result)
    return result.reshape(sums.shape)


@_compile
def _add_taps(planes: Any, weights: Any, firsts: Any, sums: Any) -> None:
    length = sums.shape[2]
    for n in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            plane, weight = planes[n, c], weights[c]
            for begin in range(0, length, 2048):
                total = sums[n, c, begin : begin + 2048]
                for tap in range(weight.size):
                    first, factor = firsts[tap] + begin, weight[tap]
                    some = plane[first : first + total.size]
                    for x in range(total.size):
                        total[x] += some[x] * factor


def add_taps(planes: NDArray, weights: NDArray, firsts: tuple[int, ...], length: int) -> NDArray:
    n, c, _ = planes.shape
    sums = np.zeros((n, c, length), planes.dtype)
    _add_taps(planes, np.ascontiguousarray(weights), np.array(firsts), sums)
    return sums


def add_taps_exactly(planes: F32, weights: F32, firsts: tuple[int, ...], length: int) -> F32:
    return add_taps(planes, weights, firsts, length)


_ALL: tuple[Callable[..., Any], ...] = (
    *BF16_KERNELS,
    add_taps,
    add_taps_exactly,
    from_float,
    quantize_channels,
    to_float,
)
KERNELS = {function.__name__: function for function in _ALL}

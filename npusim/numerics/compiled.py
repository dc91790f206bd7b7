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
from npusim.numerics.toward_zero import is_native, toward_zero

F32 = NDArray[np.float32]
Pair = tuple[int, int]


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
def _add_windows(planes: Any, weights: Any, steps: Any, sums: Any) -> None:
    """To each of `sums` (n, c, oh, ow) what its window meets in `planes` (n, c, h * w) times `weights` (c, kh, kw), kh
    outside kw. `steps` are those to the right and down a plane of the window, then of the kernel's elements."""
    right, down, right_tap, down_tap = steps
    for n in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            plane, weight = planes[n, c], weights[c]
            for y in range(sums.shape[2]):
                row = sums[n, c, y]
                for i in range(weight.shape[0]):
                    for j in range(weight.shape[1]):
                        first = y * down + i * down_tap + j * right_tap
                        factor = weight[i, j]
                        if right == 1:
                            for x in range(row.size):
                                row[x] += plane[first + x] * factor
                        else:
                            for x in range(row.size):
                                row[x] += plane[first + x * right] * factor


def _summed(extended: NDArray, weights: NDArray, stride: Pair, dilation: Pair, sums: NDArray) -> NDArray:
    n, c, h, w = extended.shape
    planes = np.ascontiguousarray(extended).reshape(n, c, h * w)
    weights = np.ascontiguousarray(np.broadcast_to(weights, (c, *weights.shape[1:])))
    _add_windows(planes, weights, (stride[1], stride[0] * w, dilation[1], dilation[0] * w), sums)
    return sums


def sum_windows(extended: NDArray, weights: NDArray[np.int32], stride: Pair, dilation: Pair, out_hw: Pair) -> Any:
    return _summed(extended, weights, stride, dilation, np.zeros((*extended.shape[:2], *out_hw), np.int32))


def sum_windows_in_order(
    extended: F32, weights: F32, stride: Pair, dilation: Pair, out_hw: Pair, *, normal: bool
) -> Any:
    if not normal or not is_native():
        return DECLINED
    return toward_zero(
        _summed, extended, weights, stride, dilation, np.zeros((*extended.shape[:2], *out_hw), np.float32)
    )


_ALL: tuple[Callable[..., Any], ...] = (
    *BF16_KERNELS,
    from_float,
    quantize_channels,
    sum_windows,
    sum_windows_in_order,
    to_float,
)
KERNELS = {function.__name__: function for function in _ALL}

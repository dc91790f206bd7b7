"""The kernels that `backend` names, compiled by Numba. NumPy's are what is right; these give the same bits, or decline.

Sums toward zero rely on the processor's rounding mode, as NumPy's do. What Numba makes is kept in the user's cache
folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from npusim.numerics.accumulate import Span, stays_normal
from npusim.numerics.backend import DECLINED
from npusim.numerics.streamed import streams_normally
from npusim.numerics.toward_zero import is_native, toward_zero
from npusim.numerics.user_cache import private_folder

F32 = NDArray[np.float32]
Pair = tuple[int, int]
_FOLDER = private_folder("numba")
"""Where compiled code is kept: files that Numba trusts, so nobody else may write there."""
FEW_ROWS = 8
"""Up to so many rows, a product is faster here than in BLAS."""


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled at its first call for each combination of types, or loaded from the user's cache folder."""
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(_FOLDER)
    try:
        compiled: Callable[..., Any] = numba.njit(function, cache=_FOLDER is not None, nogil=True)
    finally:
        config.CACHE_DIR = before
    return compiled


@numba.njit(inline="always")
def _number(pattern: Any) -> Any:
    """What the TIU reads in a bf16 pattern that is no poison."""
    bits = np.uint32(np.uint32(pattern) << np.uint32(16))
    return bits.view(np.float32) if bits & np.uint32(0x7F800000) else np.float32(0)


@_compile
def _exponents(patterns: Any) -> Any:
    """(smallest, largest) biased exponent of what is not zero or denormal; (255, 0) for none."""
    lowest, highest = np.uint16(255), np.uint16(0)
    for pattern in patterns:
        exponent = np.uint16((pattern >> np.uint16(7)) & np.uint16(0xFF))
        highest = max(highest, exponent)
        lowest = min(lowest, exponent if exponent else np.uint16(255))
    return lowest, highest


@_compile
def _add_products(left: Any, right: Any, total: Any) -> None:
    """To each of `total` (M, N) its K products, one after another."""
    for m in range(left.shape[0]):
        for k in range(left.shape[1]):
            factor = _number(left[m, k])
            for n in range(right.shape[1]):
                total[m, n] += factor * _number(right[k, n])


def dot_patterns(left: NDArray[np.uint16], right: NDArray[np.uint16], start: F32 | None = None) -> Any:
    rows, count = left.shape
    if rows > FEW_ROWS or not is_native():
        return DECLINED
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right).reshape(count, -1)
    spans = (_span(left), _span(right))
    if not stays_normal(*spans, count, None if start is None else Span.of_float32(start)):
        return DECLINED
    total = np.zeros((rows, right.shape[1]), np.float32) if start is None else start.copy()
    toward_zero(_add_products, left, right, total)
    return total


@_compile
def _add_tiles(left: Any, tiles: Any, total: Any) -> None:
    """To each of `total` (M, C, W) its products with the integers of `tiles` (T, k, C, W), one after another."""
    for m in range(total.shape[0]):
        for c in range(total.shape[1]):
            row = total[m, c]
            for t in range(tiles.shape[0]):
                for k in range(tiles.shape[1]):
                    factor, numbers = left[m, t * tiles.shape[1] + k], tiles[t, k, c]
                    for n in range(row.size):
                        row[n] += factor * np.float32(numbers[n])


def dot_streamed(left: NDArray[np.uint16], tiles: Sequence[NDArray], start: F32 | None = None) -> Any:
    if len(left) > FEW_ROWS // 2 or any(tile.itemsize > 1 for tile in tiles):
        return DECLINED  # BLAS is faster
    if not is_native() or not streams_normally(left, tiles, start):
        return DECLINED
    factors, row = to_float(left), 0
    shape = (len(left), *tiles[0].shape[2:])
    total = np.zeros(shape, np.float32) if start is None else start.copy()
    for tile in tiles:
        rows = tile.shape[0] * tile.shape[1]
        toward_zero(_add_tiles, factors[:, row : row + rows], tile, total)
        row += rows
    return total


def _span(patterns: NDArray[np.uint16]) -> Span:
    lowest, highest = _exponents(patterns.reshape(-1))
    return Span(int(lowest), int(highest), 7)


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


def is_kept() -> bool:
    """Whether the user's cache folder holds compiled code already."""
    return _FOLDER is not None and any(_FOLDER.rglob("*.nbi"))


KERNELS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        dot_patterns,
        dot_streamed,
        from_float,
        quantize_channels,
        sum_windows,
        sum_windows_in_order,
        to_float,
    )
}

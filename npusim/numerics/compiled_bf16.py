"""Sums of products and elementwise arithmetic of bf16 patterns, compiled by Numba; npusim.numerics.compiled lists them.

Sums toward zero rely on the processor's rounding mode, as NumPy's do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from npusim.numerics.accumulate import FEW_ROWS, LARGEST, Span, stays_normal
from npusim.numerics.backend import DECLINED
from npusim.numerics.bf16 import SMALLEST_NORMAL
from npusim.numerics.compiling import compiled
from npusim.numerics.streamed import INTEGERS
from npusim.numerics.toward_zero import is_native, toward_zero

F32 = NDArray[np.float32]
Patterns = NDArray[np.uint16]


@numba.njit(inline="always")
def _number(pattern: Any) -> Any:
    """The number that the TIU reads in a bf16 pattern that is not poison."""
    bits = np.uint32(np.uint32(pattern) << np.uint32(16))
    return bits.view(np.float32) if bits & np.uint32(0x7F800000) else np.float32(0)


@numba.njit(inline="always")
def _read(pattern: Any) -> Any:
    """The number that the TIU reads in a bf16 pattern: NaN for poison."""
    return np.float32(np.nan) if pattern & np.uint16(0x7F80) == np.uint16(0x7F80) else _number(pattern)


@numba.njit(inline="always")
def _written(value: Any) -> Any:
    """The pattern of a float32 number, rounded to nearest even whatever the processor's rounding mode is."""
    bits = np.float32(value).view(np.uint32)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    if magnitude >= np.uint32(0x7F7F8000):
        return np.uint16(0x7F7F)
    if magnitude < np.uint32(0x00800000):
        return np.uint16(0)
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@numba.njit(inline="always")
def _shifted(pattern: Any) -> Any:
    """Integers that are ordered as the magnitudes are, of 32 bits, so that compiled loops process many at a time."""
    return np.uint32(np.uint32(pattern) << np.uint32(17))


@compiled
def _magnitudes(patterns: Any) -> Any:
    """(smallest - 1, largest) of what _shifted gives; zero - 1 is the largest of all."""
    lowest, highest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for i in range(patterns.size):
        magnitude = _shifted(patterns[i])
        highest = max(highest, magnitude)
        lowest = min(lowest, np.uint32(magnitude - np.uint32(1)))
    return lowest, highest


def _span(lowest: int, highest: int) -> Span | None:
    """The span of patterns of such magnitudes; None where denormals are among them."""
    smallest = (lowest + 1) & 0xFFFFFFFF
    if smallest >> 24 == 0 and smallest:
        return None
    return Span(smallest >> 24 or 255, highest >> 24, 7)


def _span_of(patterns: Patterns) -> Span:
    """Denormals, which read as 0, do not count."""
    found = _span(*_magnitudes(patterns.reshape(-1)))
    return Span.of_bf16(patterns) if found is None else found


@compiled
def _widen(patterns: Any, bits: Any) -> Any:
    """The numbers of patterns without denormals, as bits of float32; returns what _magnitudes does."""
    lowest, highest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for i in range(patterns.size):
        magnitude = _shifted(patterns[i])
        highest = max(highest, magnitude)
        lowest = min(lowest, np.uint32(magnitude - np.uint32(1)))
        bits[i] = np.uint32(patterns[i]) << np.uint32(16)
    return lowest, highest


@compiled
def _add_products(left: Any, right: Any, total: Any) -> None:
    """To each of `total` (M, N) its products of patterns `left` (M, K) and numbers `right` (K, N), in order."""
    for m in range(total.shape[0]):
        row = total[m]
        for k in range(right.shape[0]):
            factor, numbers = _number(left[m, k]), right[k]
            for n in range(row.size):
                row[n] += factor * numbers[n]


def dot_patterns(left: Patterns, right: Patterns, start: F32 | None = None) -> Any:
    rows, count = left.shape
    if rows > FEW_ROWS or not is_native():
        return DECLINED
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right).reshape(count, -1)
    bits = np.empty(right.shape, np.uint32)
    span = _span(*_widen(right.reshape(-1), bits.reshape(-1)))
    begun = None if start is None else Span.of_float32(start)
    if span is None or not stays_normal(_span_of(left), span, count, begun):
        return DECLINED
    total = np.zeros((rows, right.shape[1]), np.float32) if start is None else start.copy()
    toward_zero(_add_products, left, bits.view(np.float32), total)
    return total


@compiled
def _add_tiles(left: Any, tiles: Any, first: Any, total: Any) -> None:
    """To each of `total` (M, C, W) its products with the integers of `tiles` (T, k, C, W), one after another: rows from
    `first` on of the sum."""
    for m in range(total.shape[0]):
        for c in range(total.shape[1]):
            row = total[m, c]
            for t in range(tiles.shape[0]):
                for k in range(tiles.shape[1]):
                    factor, numbers = _number(left[m, first + t * tiles.shape[1] + k]), tiles[t, k, c]
                    for n in range(row.size):
                        row[n] += factor * np.float32(numbers[n])


@compiled
def _add_pattern_tiles(left: Any, tiles: Any, first: Any, total: Any, bits: Any) -> Any:
    """The same for patterns, `tiles` (T, C, k * W); returns what _magnitudes does. `bits` (k, W) is overwritten."""
    lowest, highest = np.uint32(0xFFFFFFFF), np.uint32(0)
    numbers = bits.view(np.float32)
    for t in range(tiles.shape[0]):
        for c in range(total.shape[1]):
            low, high = _widen(tiles[t, c], bits.reshape(-1))
            lowest, highest = min(lowest, low), max(highest, high)
            _add_products(left[:, first + t * bits.shape[0] :], numbers, total[:, c])
    return lowest, highest


def dot_streamed(left: Patterns, tiles: Sequence[NDArray], start: F32 | None = None) -> Any:
    if len(left) > FEW_ROWS // 2 or not is_native():
        return DECLINED  # BLAS is faster
    left, row = np.ascontiguousarray(left), 0
    total = np.zeros((len(left), *tiles[0].shape[2:]), np.float32) if start is None else start.copy()
    span: Span | None
    spans = []
    for tile in tiles:
        count, depth, channels, width = tile.shape
        if tile.itemsize == 1:
            toward_zero(_add_tiles, left, tile, row, total)
            span = INTEGERS
        else:
            flat, bits = tile.transpose(0, 2, 1, 3).reshape(count, channels, -1), np.empty((depth, width), np.uint32)
            span = _span(*toward_zero(_add_pattern_tiles, left, flat, row, total, bits))
        if span is None:
            return DECLINED
        spans.append(span)
        row += count * depth
    right, begun = reduce(Span.with_those_of, spans), None if start is None else Span.of_float32(start)
    return total if stays_normal(_span_of(left), right, left.shape[1], begun) else DECLINED


PRODUCT, SUM, DIFFERENCE, LARGER, SMALLER = range(5)


@compiled
def _each(operation: Any, a: Any, b: Any, result: Any) -> None:
    """Writes to `result` (n, c, h, w) an operation's results of each pair of numbers."""
    for n in range(result.shape[0]):
        for c in range(result.shape[1]):
            for h in range(result.shape[2]):
                for w in range(result.shape[3]):
                    x, y = _read(a[n, c, h, w]), _read(b[n, c, h, w])
                    if operation == PRODUCT:
                        z = x * y
                    elif operation == SUM:
                        z = x + y
                    elif operation == DIFFERENCE:
                        z = x - y
                    elif operation == LARGER:
                        z = x if x > y or np.isnan(x) else y
                    else:
                        z = x if x < y or np.isnan(x) else y
                    result[n, c, h, w] = _written(z)


def _alike(operand: Patterns, shape: tuple[int, ...]) -> Patterns:
    """A constant broadcast to that shape; anything else unchanged."""
    return np.ndarray(shape, np.uint16, operand, 0, (0,) * len(shape)) if operand.size == 1 else operand


def _pairwise(name: str, operation: int) -> Callable[..., Any]:
    """The kernel of that name."""

    def kernel(a: Patterns, b: Patterns) -> Any:
        a, b = _alike(a, b.shape), _alike(b, a.shape)
        if a.ndim != 4 or a.shape != b.shape:
            return DECLINED
        result = np.empty(a.shape, np.uint16)
        _each(operation, a, b, result)
        return result

    kernel.__name__ = name
    return kernel


@compiled
def _accumulate(total: Any, a: Any, b: Any, result: Any) -> None:
    """The processor must round toward zero. Then a product is LARGEST only if it overflows."""
    for n in range(result.shape[0]):
        for c in range(result.shape[1]):
            for h in range(result.shape[2]):
                for w in range(result.shape[3]):
                    product = _read(a[n, c, h, w]) * _read(b[n, c, h, w])
                    if abs(product) >= LARGEST:
                        product = np.float32(np.nan)
                    elif abs(product) < SMALLEST_NORMAL:
                        product = np.float32(0)
                    pattern = total[n, c, h, w]
                    before = np.uint32(np.uint32(pattern) << np.uint32(16)).view(np.float32)
                    if pattern & np.uint16(0x7F80) == np.uint16(0x7F80):
                        before = np.float32(np.nan)
                    elif pattern & np.uint16(0x7FFF) == np.uint16(0):
                        before = np.float32(0)
                    result[n, c, h, w] = _written(before + product)


def accumulated(total: Patterns, a: Patterns, b: Patterns) -> Any:
    a, b = _alike(a, total.shape), _alike(b, total.shape)
    if total.ndim != 4 or not total.shape == a.shape == b.shape or not is_native():
        return DECLINED
    result = np.empty(total.shape, np.uint16)
    toward_zero(_accumulate, total, a, b, result)
    return result


BF16_KERNELS: tuple[Callable[..., Any], ...] = (
    dot_patterns,
    dot_streamed,
    accumulated,
    _pairwise("products", PRODUCT),
    _pairwise("sums", SUM),
    _pairwise("differences", DIFFERENCE),
    _pairwise("larger", LARGER),
    _pairwise("smaller", SMALLER),
)

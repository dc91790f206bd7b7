"""Sums of products and elementwise arithmetic of bf16 patterns, compiled by Numba; npusim.numerics.compiled lists them.

Sums toward zero rely on the processor's rounding mode, as NumPy's do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """What the TIU reads in a bf16 pattern that is no poison."""
    bits = np.uint32(np.uint32(pattern) << np.uint32(16))
    return bits.view(np.float32) if bits & np.uint32(0x7F800000) else np.float32(0)


@numba.njit(inline="always")
def _read(pattern: Any) -> Any:
    """What the TIU reads in a bf16 pattern: NaN for poison."""
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


@compiled
def _exponents(patterns: Any) -> Any:
    """(smallest, largest) biased exponent of what is not zero or denormal; (255, 0) for none."""
    lowest, highest = np.uint16(255), np.uint16(0)
    for pattern in patterns:
        exponent = np.uint16((pattern >> np.uint16(7)) & np.uint16(0xFF))
        highest = max(highest, exponent)
        lowest = min(lowest, exponent if exponent else np.uint16(255))
    return lowest, highest


def _span(patterns: Patterns) -> Span:
    lowest, highest = _exponents(patterns.reshape(-1))
    return Span(int(lowest), int(highest), 7)


@compiled
def _add_products(left: Any, right: Any, total: Any, values: Any) -> Any:
    """To each of `total` (M, C * W) its products with `right` (K, C, W), one after another. Returns the exponents of
    `right`, as _exponents does. `values` [C * W] is overwritten."""
    lowest, highest = np.uint16(255), np.uint16(0)
    for k in range(right.shape[0]):
        n = 0
        for c in range(right.shape[1]):
            for w in range(right.shape[2]):
                pattern = right[k, c, w]
                exponent = np.uint16((pattern >> np.uint16(7)) & np.uint16(0xFF))
                highest = max(highest, exponent)
                lowest = min(lowest, exponent if exponent else np.uint16(255))
                values[n] = _number(pattern)
                n += 1
        for m in range(left.shape[0]):
            factor, row = _number(left[m, k]), total[m]
            for n in range(values.size):
                row[n] += factor * values[n]
    return lowest, highest


def dot_patterns(left: Patterns, right: Patterns, start: F32 | None = None) -> Any:
    rows, count = left.shape
    if rows > FEW_ROWS or not is_native():
        return DECLINED
    left = np.ascontiguousarray(left)
    is_tensor = right.ndim == 4 and right.shape[0] == count and right.shape[2] == 1
    right = right[:, :, 0] if is_tensor else right.reshape(count, 1, -1)
    columns = right.shape[1] * right.shape[2]
    total = np.zeros((rows, columns), np.float32) if start is None else start.copy()
    lowest, highest = toward_zero(_add_products, left, right, total, np.empty(columns, np.float32))
    spans = _span(left), Span(int(lowest), int(highest), 7)
    return total if stays_normal(*spans, count, None if start is None else Span.of_float32(start)) else DECLINED


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


def dot_streamed(left: Patterns, tiles: Sequence[NDArray], start: F32 | None = None) -> Any:
    if len(left) > FEW_ROWS // 2 or tiles[0].itemsize > 1 or not is_native():
        return DECLINED  # BLAS is faster
    left = np.ascontiguousarray(left)
    if not stays_normal(_span(left), INTEGERS, left.shape[1], None if start is None else Span.of_float32(start)):
        return DECLINED
    total = np.zeros((len(left), *tiles[0].shape[2:]), np.float32) if start is None else start.copy()
    row = 0
    for tile in tiles:
        toward_zero(_add_tiles, left, tile, row, total)
        row += tile.shape[0] * tile.shape[1]
    return total


PRODUCT, SUM, DIFFERENCE, LARGER, SMALLER = range(5)


@compiled
def _each(operation: Any, a: Any, b: Any, result: Any) -> None:
    """Writes to `result` (n, c, h, w) what an operation makes of every two numbers."""
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
    """A constant in that shape, and whatever is no constant as it is."""
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
    """Call it where the processor rounds toward zero. A product that overflows is LARGEST there, as no other is."""
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

"""Products and sums of bf16 numbers as the TIU forms them: one term at a time in ascending order, toward zero.

Right operands lie in panels (reference_model.quant.panels), where BLAS adds in this order. Each shape is tried once;
shapes that differ, and numbers that may leave the normal range, go through npusim.numerics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.numerics import bf16
from npusim.numerics.accumulate import STACKED, Span, dot_in_order, stays_normal, sum_stacked, sums_in_order
from npusim.numerics.toward_zero import is_native, rounding_toward_zero
from reference_model.quant.panels import PANEL, Panels, height_for, multiply, panels_of

F32 = NDArray[np.float32]

_DIAGONAL = 32
_INFINITY = 0x7F800000
_SMALLEST = 0x00800000


@dataclass(frozen=True, eq=False)
class Numbers:
    """An operand [..., M, K]: bf16 numbers in float32, NaN for poison, and the span of their exponents."""

    values: F32
    span: Span

    @classmethod
    def of(cls, patterns: NDArray[np.uint16]) -> Numbers:
        """What the TIU reads in bf16 patterns."""
        return cls(bf16.to_float(patterns), Span.of_bf16(patterns))

    @classmethod
    def of_floats(cls, values: F32) -> Numbers:
        """The same of float32 values, which are rounded to bf16 where they are no bf16 numbers."""
        bits = values.view(np.uint32)
        magnitudes = bits & 0x7FFFFFFF
        largest = int(magnitudes.max(initial=0))
        magnitudes -= 1  # zero wraps round to the largest
        smallest = (int(magnitudes.min(initial=0xFFFFFFFF)) + 1) & 0xFFFFFFFF
        zeros_alone = smallest == 0
        if np.bitwise_or.reduce(bits, axis=None) & 0xFFFF or largest >= _INFINITY or 0 < smallest < _SMALLEST:
            return cls.of(bf16.from_float(values))
        return cls(values, Span(255 if zeros_alone else smallest >> 23, largest >> 23, 7))

    def swapaxes(self, first: int, second: int) -> Numbers:
        """As of an array."""
        return Numbers(self.values.swapaxes(first, second), self.span)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A right-hand matrix [K, N] that is read many times.

    It holds float32 values of bf16 numbers, and the span of their exponents."""

    values: Panels
    span: Span

    @classmethod
    def of(cls, right: NDArray[np.uint16]) -> Matrix:
        """The matrix of bf16 patterns [K, N]."""
        depth, width = right.shape
        columns = (bf16.to_float(right[:, first : first + PANEL]).T for first in range(0, width, PANEL))
        return cls(Panels.gather(depth, width, columns), Span.of_bf16(right))


def product(left: Numbers, right: Numbers | Matrix) -> F32:
    """left [..., M, K] times right [..., K, N] (a Matrix has no axes in front) -> float32 [..., M, N]."""
    x, normal = left.values, stays_normal(left.span, right.span, left.values.shape[-1])
    if isinstance(right, Matrix):
        found = _sum_in_panels(x, right.values.panels, normal)
        if found is not None:
            return found[:, : right.values.num_columns]
        parts = [dot_in_order(x, part, normal) for _, part in right.values.side_by_side()]
        return np.concatenate(parts, 1)
    if x.ndim == 2:
        return dot_in_order(x, right.values, normal)
    return _stacked_products(x, right.values, normal)


def _stacked_products(left: F32, right: F32, normal: bool) -> F32:
    """The product of each of a stack of matrices, [H, M, K] times [H, K, N]."""
    depth, width = right.shape[-2:]
    if normal:
        whole = -(-depth // PANEL) * PANEL  # zeros fill the depth up, so that few shapes have to be tried
        wide = np.zeros((*left.shape[:-1], whole), np.float32)
        wide[..., :depth] = left
        found = _sum_in_panels(wide, panels_of(right, whole), normal)
        if found is not None:
            return found[..., :width]
    return np.stack([dot_in_order(a, b, normal) for a, b in zip(left, right, strict=True)])


def _sum_in_panels(left: F32, panels: F32, normal: bool) -> F32 | None:
    """left [..., M, K] times panels [..., P, K, 64] -> [..., M, 64 P]; None where that gives another order of sums."""
    if not normal or not is_native():
        return None
    with rounding_toward_zero():
        heights = range(height_for(left.shape[-2]), 0, -2)
        height = next((height for height in heights if sums_in_order(height, left.shape[-1], PANEL)), 0)
        return multiply(left, panels, height) if height else None


def row_sums(x: Numbers) -> F32:
    """The sum over the columns of x [..., K] -> [..., 1]."""
    depth = x.values.shape[-1]
    rows, ones = x.values.reshape(-1, depth), Numbers(np.ones((depth, 1), np.float32), Span(127, 127, 7))
    normal = stays_normal(x.span, ones.span, depth)
    sums = sum_stacked(rows.T, normal) if normal and rows.size <= STACKED else product(Numbers(rows, x.span), ones)
    return sums.reshape(*x.values.shape[:-1], 1)


def row_dots(a: Numbers, b: Numbers) -> F32:
    """The product of each row of a [T, K] with the same row of b -> [T, 1].

    Of many rows, or of numbers that may leave the normal range, it is the diagonal of a product in blocks of rows,
    which is less work than a loop over columns."""
    if a.values.size <= STACKED and stays_normal(a.span, b.span, a.values.shape[1]):
        return sum_stacked((a.values * b.values).T, True)[:, None]
    blocks = [slice(start, start + _DIAGONAL) for start in range(0, len(a.values), _DIAGONAL)]
    parts = [product(Numbers(a.values[at], a.span), Numbers(b.values[at].T, b.span)) for at in blocks]
    return np.concatenate([np.diagonal(part) for part in parts])[:, None]

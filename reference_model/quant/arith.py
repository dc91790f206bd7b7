"""One function for each TIU instruction on bf16 patterns: elementwise arithmetic, row maximum and matrix product.

Arrays are uint16 bf16 patterns and broadcast as in NumPy. A chip operand with stride 0, or a constant, is such a
broadcast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.numerics import bf16
from npusim.numerics.accumulate import Span, dot_in_order, stays_normal, sums_in_order
from npusim.numerics.toward_zero import add as add_toward_zero
from npusim.numerics.toward_zero import is_native, rounding_toward_zero
from reference_model.panels import PANEL, Panels, height_for

Patterns = NDArray[np.uint16]
F32 = NDArray[np.float32]
Operand = Patterns | np.uint16
"""A tensor, or a constant."""

_DIAGONAL = 32


def pattern(value: float) -> np.uint16:
    """A constant operand: `value` rounded to bf16."""
    return np.uint16(bf16.from_float(np.array([value], np.float32))[0])


def patterns(values: NDArray) -> Patterns:
    """float `values` rounded to bf16, as the host does for what it stores in GMEM."""
    return bf16.from_float(np.asarray(values, np.float32))


def floats(values: Operand) -> F32:
    """The values of bf16 patterns, NaN for poison."""
    return bf16.to_float(np.asarray(values, np.uint16))


def mul(a: Patterns, b: Operand) -> Patterns:
    """tiu_mul: the product, rounded once."""
    return _elementwise(np.multiply, a, b)


def add(a: Patterns, b: Operand) -> Patterns:
    """tiu_add."""
    return _elementwise(np.add, a, b)


def sub(a: Patterns, b: Operand) -> Patterns:
    """tiu_sub: a - b."""
    return _elementwise(np.subtract, a, b)


def maximum(a: Patterns, b: Operand) -> Patterns:
    """tiu_max."""
    return _elementwise(np.maximum, a, b)


def minimum(a: Patterns, b: Operand) -> Patterns:
    """tiu_min."""
    return _elementwise(np.minimum, a, b)


def _elementwise(operation: Callable[[F32, F32], F32], a: Patterns, b: Operand) -> Patterns:
    with np.errstate(over="ignore", invalid="ignore"):
        return bf16.from_float(operation(floats(a), floats(b)))


def mac(accumulator: Patterns, a: Patterns, b: Operand) -> Patterns:
    """tiu_mac: accumulator + a * b. The product is exact, the sum float32 toward zero, then rounded once to bf16."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = bf16.flush(np.multiply(floats(a), floats(b)))
        with rounding_toward_zero():
            total = add_toward_zero(bf16.to_float_with_denormals(np.asarray(accumulator, np.uint16)), product)
    return bf16.from_float(total)


def row_max(x: Patterns) -> Patterns:
    """tiu_max_pooling over the last axis, which keeps extent 1."""
    return bf16.from_float(floats(x).max(-1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Matrix:
    """A right-hand matrix that is read many times.

    It holds float32 values of bf16 numbers [K, N], and the span of their exponents."""

    values: Panels
    span: Span

    @classmethod
    def of(cls, right: Patterns) -> Matrix:
        """The matrix of bf16 patterns [K, N]."""
        depth, width = right.shape
        columns = (floats(right[:, first : first + PANEL]).T for first in range(0, width, PANEL))
        return cls(Panels.gather(depth, width, columns), Span.of_bf16(right))

    def product(self, left: Patterns) -> F32:
        """left [M, K] times this matrix, as matmul_float."""
        normal = stays_normal(Span.of_bf16(left), self.span, left.shape[1])
        x = floats(left)
        with rounding_toward_zero():
            height = _rows_in_order(*x.shape) if normal and is_native() else 0
            if height:
                return self.values.product_by(height, x)
        out = np.empty((len(x), self.values.num_columns), np.float32)
        for columns, right in self.values.side_by_side():
            out[:, columns] = dot_in_order(x, right, normal)
        return out


def _rows_in_order(num_rows: int, depth: int) -> int:
    """How many rows this BLAS takes with one panel of this depth and still sums in ascending order; 0 if it does not.

    Call it inside rounding_toward_zero()."""
    heights = range(height_for(num_rows), 0, -2)
    return next((height for height in heights if sums_in_order(height, depth, PANEL)), 0)


def matmul_float(left: Patterns, right: Patterns | Matrix) -> F32:
    """tiu_matrix_multiplication up to its float32 partial sums (ps32): left [M, K] times right [K, N] -> [M, N].

    One product at a time is added in ascending k and rounded toward zero, as when each row of the left matrix lies
    in one channel."""
    if isinstance(right, Matrix):
        return right.product(left)
    normal = stays_normal(Span.of_bf16(left), Span.of_bf16(right), left.shape[1])
    return dot_in_order(floats(left), floats(right), normal)


def matmul(left: Patterns, right: Patterns | Matrix) -> Patterns:
    """tiu_matrix_multiplication: as matmul_float, rounded to bf16 once at the end."""
    return bf16.from_float(matmul_float(left, right))


def row_dot(a: Patterns, b: Patterns) -> Patterns:
    """tiu_depthwise_convolution of each row with a row under one window: a, b [T, K] -> [T, 1].

    Summed as in matmul. It is computed as the diagonal of a product in blocks of rows, which is less work than a
    loop over columns."""
    starts = range(0, len(a), _DIAGONAL)
    blocks = [
        np.diagonal(matmul_float(a[start : start + _DIAGONAL], b[start : start + _DIAGONAL].T)) for start in starts
    ]
    return bf16.from_float(np.concatenate(blocks))[:, None]

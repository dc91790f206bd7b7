"""One function for each TIU instruction on bf16 patterns: elementwise arithmetic, row maximum and matrix product.

Arrays are uint16 bf16 patterns and broadcast as in NumPy. A chip operand with stride 0, or a constant, is such a
broadcast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from npusim.numerics import bf16
from npusim.numerics.toward_zero import add as add_toward_zero
from npusim.numerics.toward_zero import rounding_toward_zero
from reference_model.quant.products import F32, Matrix, Numbers, product, row_dots, row_sums

Patterns = NDArray[np.uint16]
Operand = Patterns | np.uint16
"""A tensor, or a constant."""


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


def matmul_float(left: Patterns, right: Patterns | Numbers | Matrix) -> F32:
    """tiu_matrix_multiplication up to its float32 partial sums (ps32): left [M, K] times right [K, N] -> [M, N].

    One product at a time is added in ascending k and rounded toward zero, as when each row of the left matrix lies
    in one channel. With an axis in front of both it is as many products."""
    return product(Numbers.of(left), Numbers.of(right) if isinstance(right, np.ndarray) else right)


def matmul(left: Patterns, right: Patterns | Numbers | Matrix) -> Patterns:
    """tiu_matrix_multiplication: as matmul_float, rounded to bf16 once at the end."""
    return bf16.from_float(matmul_float(left, right))


def row_dot(a: Patterns, b: Patterns) -> Patterns:
    """tiu_depthwise_convolution of each row with a row under one window: a, b [T, K] -> [T, 1], summed as in matmul."""
    return bf16.from_float(row_dots(Numbers.of(a), Numbers.of(b)))


def row_sum(x: Patterns) -> Patterns:
    """The sum over the columns of x [..., K], as a product with ones: [..., 1]."""
    return bf16.from_float(row_sums(Numbers.of(x)))

"""Elementwise arithmetic of bf16 patterns (uint16), as the TIU does it: each result is rounded once.

Operands broadcast; results are new arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.numerics import bf16
from npusim.numerics.backend import kernel
from npusim.numerics.toward_zero import add, rounding_toward_zero

Patterns = NDArray[np.uint16]


def _each(operation: np.ufunc, a: Patterns, b: Patterns) -> Patterns:
    with np.errstate(over="ignore"):
        return bf16.from_float(operation(bf16.to_float(a), bf16.to_float(b)))


@kernel
def products(a: Patterns, b: Patterns) -> Patterns:
    return _each(np.multiply, a, b)


@kernel
def sums(a: Patterns, b: Patterns) -> Patterns:
    """No rounding mode is needed: the float32 sum of two bf16 is exact, or so near the larger one that it rounds to
    that."""
    return _each(np.add, a, b)


@kernel
def differences(a: Patterns, b: Patterns) -> Patterns:
    return _each(np.subtract, a, b)


@kernel
def larger(a: Patterns, b: Patterns) -> Patterns:
    return _each(np.maximum, a, b)


@kernel
def smaller(a: Patterns, b: Patterns) -> Patterns:
    return _each(np.minimum, a, b)


@kernel
def accumulated(total: Patterns, a: Patterns, b: Patterns) -> Patterns:
    """total + a * b: the product is exact, the sum rounds toward zero, and `total` is read with its denormals."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = bf16.flush(np.multiply(bf16.to_float(a), bf16.to_float(b)))
        with rounding_toward_zero():
            found = add(bf16.to_float_with_denormals(total), product)
    return bf16.from_float(found)

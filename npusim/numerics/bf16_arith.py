"""Elementwise arithmetic of bf16 patterns (uint16), as the TIU does it: each result is rounded once.

Operands broadcast; results are new arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.numerics import bf16
from npusim.numerics.backend import kernel
from npusim.numerics.toward_zero import add, rounding_toward_zero

Patterns = NDArray[np.uint16]


@kernel
def products(a: Patterns, b: Patterns) -> Patterns:
    with np.errstate(over="ignore"):
        product = np.multiply(bf16.to_float(a), bf16.to_float(b))
    return bf16.from_float(product)


@kernel
def sums(a: Patterns, b: Patterns) -> Patterns:
    """No rounding mode is needed: the float32 sum of two bf16 is exact, or so near the larger one that it rounds to
    that."""
    with np.errstate(over="ignore"):
        total = np.add(bf16.to_float(a), bf16.to_float(b))
    return bf16.from_float(total)


@kernel
def differences(a: Patterns, b: Patterns) -> Patterns:
    with np.errstate(over="ignore"):
        difference = np.subtract(bf16.to_float(a), bf16.to_float(b))
    return bf16.from_float(difference)


@kernel
def larger(a: Patterns, b: Patterns) -> Patterns:
    return bf16.from_float(np.maximum(bf16.to_float(a), bf16.to_float(b)))


@kernel
def smaller(a: Patterns, b: Patterns) -> Patterns:
    return bf16.from_float(np.minimum(bf16.to_float(a), bf16.to_float(b)))


@kernel
def accumulated(total: Patterns, a: Patterns, b: Patterns) -> Patterns:
    """total + a * b: the product is exact, the sum rounds toward zero, and `total` is read with its denormals."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = bf16.flush(np.multiply(bf16.to_float(a), bf16.to_float(b)))
        with rounding_toward_zero():
            found = add(bf16.to_float_with_denormals(total), product)
    return bf16.from_float(found)

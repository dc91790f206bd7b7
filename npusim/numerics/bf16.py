"""bf16 as the TIU reads and writes it: uint16 patterns in memory, float32 inside.

On reading, exponent 0 (zeros and denormals) is +0, and exponent 255 (infinities and NaN) poisons the result. On
writing, the float32 is rounded to nearest even. Poison and overflow of either sign give 0x7f7f, the largest positive
number; results below 2^-126 and -0 give +0. Poison travels as NaN, which NumPy's additions, products, maximum and
minimum pass on."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from npusim.numerics.backend import kernel

POISON = np.uint16(0x7F7F)
ONE = np.uint16(0x3F80)
SMALLEST_NORMAL = np.float32(2.0**-126)

_TABLE_LIMIT = 1 << 14
"""Up to this size, tensors are read and written through a table, in few NumPy calls. For larger ones arithmetic is as
fast and leaves the cache alone. Of `take`, mode "wrap" is the fastest; patterns are never out of range."""
_UNSURE = np.uint16(0xFFFF)
"""Stands for a rounded number that may have been below 2^-126 before."""


@kernel
def to_float(patterns: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The values that the TIU sees in bf16 `patterns`; a new float32 array, NaN for poison."""
    if patterns.size <= _TABLE_LIMIT:
        return _VALUES.take(patterns, mode="wrap")
    return _to_float(patterns)


def _to_float(patterns: NDArray[np.uint16]) -> NDArray[np.float32]:
    bits = patterns.astype(np.uint32)
    bits <<= 16
    exponent = bits & 0x7F800000
    np.copyto(bits, 0, where=exponent == 0)
    np.copyto(bits, 0x7FC00000, where=exponent == 0x7F800000)
    return bits.view(np.float32)


def widened(patterns: NDArray[np.uint16]) -> NDArray[np.float32]:
    """to_float of patterns among which is neither a denormal nor poison; C-contiguous."""
    bits = patterns.astype(np.uint32, order="C")
    bits <<= 16
    return bits.view(np.float32)


def to_float_with_denormals(patterns: NDArray[np.uint16]) -> NDArray[np.float32]:
    """As to_float, but denormals keep their values. The accumulator of a multiply-accumulate is read this way."""
    return _VALUES_WITH_DENORMALS.take(patterns, mode="wrap")


@kernel
def from_float(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """float32 `values` rounded to nearest even and written as the TIU does; NaN, infinity and overflow give POISON."""
    values = np.ascontiguousarray(values, np.float32)
    if values.size <= _TABLE_LIMIT:
        with np.errstate(invalid="ignore"):  # signalling NaN
            patterns = _WRITTEN.take(values.astype(_bfloat16()).view(np.uint16), mode="wrap")
        if patterns.max(initial=0) != _UNSURE:
            return patterns
    return _from_float(values)


def _from_float(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = values.view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    patterns = rounded.astype(np.uint16)
    magnitude = np.bitwise_and(bits, 0x7FFFFFFF, out=rounded)
    # 0x7f7f8000 is the first float32 that rounds past the largest bf16. Zeros and smaller wrap round to the largest
    # numbers.
    special = (magnitude - 0x00800000) >= 0x7F7F8000 - 0x00800000
    if special.any():
        np.copyto(patterns, np.where(magnitude < 0x00800000, np.uint16(0), POISON), where=special)
    return patterns


def canonical(patterns: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """What the TIU writes back when it reads `patterns` and does nothing: from_float(to_float(patterns))."""
    return _CANONICAL.take(patterns, mode="wrap")


def rectify(patterns: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Makes patterns of negative numbers 0, in place."""
    signed = patterns.view(np.int16)
    np.maximum(signed, 0, out=signed)
    return patterns


def flush(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Makes everything in `values` below the smallest normal float32 +0, in place; returns `values`.

    The TIU does so after every product and sum."""
    np.copyto(values, 0, where=np.abs(values) < SMALLEST_NORMAL)
    return values


@cache
def _bfloat16() -> np.dtype:
    """ml_dtypes' bfloat16, which casts round to nearest even; imported here, as whoever has no bf16 needs it not."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def _constant(table: NDArray) -> NDArray:
    table.setflags(write=False)
    return table


_PATTERNS = np.arange(1 << 16, dtype=np.uint16)
_VALUES = _constant(_to_float(_PATTERNS))
_VALUES_WITH_DENORMALS = _constant(
    np.where(_PATTERNS & 0x7F80, _VALUES, (_PATTERNS.astype(np.uint32) << 16).view(np.float32)).astype(np.float32)
)
_CANONICAL = _constant(_from_float(_VALUES))
_WRITTEN = _constant(np.where(_PATTERNS & 0x7FFF == 0x0080, _UNSURE, _from_float(_VALUES)))

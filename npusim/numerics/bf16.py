"""bf16 as the TIU reads and writes it: uint16 patterns in memory, float32 inside.

On reading, exponent 0 (zeros and denormals) is +0 and exponent 255 (infinities and NaN) poisons the result. On writing, the float32 is
rounded to nearest even; poison and overflow of either sign give 0x7f7f, the largest positive number; results below 2^-126 and -0 give +0.
Poison travels as NaN, which NumPy's additions, products, maximum and minimum hand on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POISON = np.uint16(0x7F7F)
SMALLEST_NORMAL = np.float32(2.0**-126)


def to_float(patterns: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The values that the TIU sees in bf16 `patterns`; a new float32 array, NaN for poison."""
    bits = patterns.astype(np.uint32)
    bits <<= 16
    exponent = bits & 0x7F800000
    np.copyto(bits, 0, where=exponent == 0)
    np.copyto(bits, 0x7FC00000, where=exponent == 0x7F800000)
    return bits.view(np.float32)


def from_float(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """float32 `values` rounded to nearest even and written as the TIU does; NaN, infinity and overflow give POISON."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    magnitude = bits & 0x7FFFFFFF
    rounded = np.where(magnitude < 0x00800000, 0, rounded).astype(np.uint16)
    # 0x7f7f8000 is the first float32 that rounds past the largest bf16.
    return np.where(magnitude >= 0x7F7F8000, POISON, rounded)


def flush(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` with everything below the smallest normal float32 made +0, in place; the TIU does so behind every product and sum."""
    np.copyto(values, 0, where=np.abs(values) < SMALLEST_NORMAL)
    return values

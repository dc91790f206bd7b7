"""The numbers in an array. Only this file knows how a bf16 tensor is stored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from golden.errors import GoldenError

Array = npt.NDArray[np.generic]


def is_bf16(array: Array) -> bool:
    """Whether an array holds bf16: its dtype is ml_dtypes.bfloat16, or uint16, which in the vendor's archives always
    means bf16 patterns."""
    return array.dtype == np.uint16 or array.dtype.name == "bfloat16"


def as_values(array: Array) -> Array:
    """The numbers of an array, in its shape: bf16 and float16 become float32, bool becomes uint8, others are unchanged.

    Raises GoldenError for a dtype that is neither bool, integer, float nor bf16."""
    if is_bf16(array):
        return (
            (np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(array.shape)
        )
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind in "iuf" and array.dtype.itemsize <= 8:
        return array
    raise GoldenError(
        f"dtype {array.dtype} cannot be compared: give bool, integers, floats of at most 64 bits, or bf16 as "
        "uint16 patterns"
    )


def as_float64(array: Array) -> npt.NDArray[np.float64]:
    """The numbers of an array as float64, in its shape. A signalling NaN becomes a quiet one, without a warning.

    Raises GoldenError for a dtype that is neither bool, integer, float nor bf16."""
    with np.errstate(invalid="ignore"):
        return as_values(array).astype(np.float64)


def is_integer(values: Array) -> bool:
    """Whether values are integers, signed or not."""
    return values.dtype.kind in "iu"


def num_bits_differ(target: Array, reference: Array) -> int | None:
    """How many elements are stored with different bits, such as -0.0 and 0.0; None if the formats differ. The arrays
    must have the same shape."""
    if target.dtype != reference.dtype and not (is_bf16(target) and is_bf16(reference)):
        return None
    bits = np.dtype(f"u{target.dtype.itemsize}")
    return int(
        np.count_nonzero(
            np.ascontiguousarray(target).view(bits).ravel() != np.ascontiguousarray(reference).view(bits).ravel()
        )
    )

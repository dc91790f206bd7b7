"""Arrays that several of golden's tests draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
from hypothesis import strategies as st

FINITE_FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
SIGNALLING_NANS = (
    np.array([0x7F81], np.uint16),
    np.array([0x7F81], np.uint16).view(ml_dtypes.bfloat16),
    np.array([0x7C01], np.uint16).view(np.float16),
    np.array([0x7F800001], np.uint32).view(np.float32),
    np.array([0x7FF0000000000001], np.uint64).view(np.float64),
)
"""A signalling NaN of each format. NumPy warns when it computes with one, ml_dtypes even in isnan."""
Arrays = st.SearchStrategy[np.ndarray]
SHAPES = hnp.array_shapes(max_dims=4, max_side=5)


def float_arrays(shape: Any = SHAPES) -> Arrays:
    return hnp.arrays(np.float32, shape, elements=FINITE_FLOATS)


def finite_bf16(shape: Any = SHAPES) -> Arrays:
    """uint16 patterns of finite bf16 numbers."""
    return hnp.arrays(np.uint16, shape, elements=st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7F80 != 0x7F80))


def tensors() -> Arrays:
    """Every kind of tensor an archive may hold, finite."""
    integers = st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, np.bool_])
    return st.one_of(float_arrays(), finite_bf16(), integers.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)))


def pairs_of(arrays_of_shape: Callable[[Any], Arrays]) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return SHAPES.flatmap(lambda shape: st.tuples(arrays_of_shape(shape), arrays_of_shape(shape)))

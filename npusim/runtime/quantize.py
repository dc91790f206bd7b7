"""Float input as the vendor's runner stores it in a tensor (sophgo/cviruntime tool/model_runner.cpp, loadInput)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.errors import UsageError
from npusim.loader.cvimodel_types import DType
from npusim.runtime.tensor import TensorInfo


def quantize_input(values: NDArray[np.float32], info: TensorInfo) -> NDArray:
    """float32 `values` of any shape as elements of `info.dtype`, same shape.

    INT8 and UINT8: times qscale, rounded half away from zero, plus the zero point; INT8 saturates, UINT8 saturates
    above and wraps below 0. INT16 and UINT16: rounded, low 16 bits. BF16: the upper 16 bits (truncation); infinity
    and NaN of either sign become 0x7f7f. Raises UsageError for NaN in an integer tensor and for a format that the
    runner does not convert to."""
    if info.format == DType.FP32:
        return values
    if info.format == DType.BF16:
        bits = (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16).reshape(values.shape)
        return np.where((bits & 0x7F80) == 0x7F80, np.uint16(0x7F7F), bits)
    if np.isnan(values).any():
        raise UsageError(f"input {info.name!r} holds NaN, which has no {info.format.name} value")
    scaled = values * np.float32(info.qscale) if info.format in (DType.INT8, DType.UINT8) else values
    # Far beyond every limit below, and exact in int64.
    whole = np.clip(round_half_away(scaled), -(2.0**31), 2.0**31 - 129).astype(np.int64)
    if info.format == DType.INT8:
        return np.clip(whole + info.zero_point, -128, 127).astype(np.int8)
    if info.format == DType.UINT8:
        return np.minimum(whole + info.zero_point, 255).astype(np.uint8)
    if info.format in (DType.INT16, DType.UINT16):
        return whole.astype(info.dtype)
    raise UsageError(
        f"input {info.name!r} has type {info.format.name}; float values are not converted to it, give integers"
    )


def round_half_away(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """C's roundf: to the nearest integer, halves away from zero. `floor(x + 0.5)` would be wrong just below a half."""
    whole = np.trunc(values)
    with np.errstate(invalid="ignore"):
        return whole + np.copysign(np.abs(values - whole) >= 0.5, values).astype(np.float32)

"""`cpu_reduce_mean`, `cpu_reduce_max`, `reduce_l2`.

Eight-bit tensors, signed or not, are reduced as unsigned bytes, as in the source: sophgo/cviruntime
src/common/cpu_function/reducemean.cpp, reducemax.cpp, reducel2.cpp."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall

_BYTES = (DType.INT8, DType.UINT8)


def reduce_mean(call: CpuCall) -> Bound:
    """Mean along `axes`, one after the other.

    Sums are float32 from first to last, or sums of bytes that wrap at 256; then they are divided."""
    return _each_axis(call, (DType.FP32, *_BYTES), _mean)


def reduce_l2(call: CpuCall) -> Bound:
    """Square root of the sum of squares along `axes`, one after the other."""
    return _each_axis(call, (DType.FP32,), _l2)


def reduce_max(call: CpuCall) -> Bound:
    """Maximum along the first of `axes`; the source ignores the others."""
    source, out = _arrays(call, (DType.FP32, *_BYTES))
    axis = _axes(call)[0]
    results = source.size // source.shape[axis]
    call.require(out.size >= results, f"its output has {out.size} elements for {results} results")

    def run() -> None:
        out.reshape(-1)[:results] = source.max(axis=axis).reshape(-1)

    return run


def _each_axis(call: CpuCall, formats: tuple[DType, ...], step: Callable[[NDArray], NDArray]) -> Bound:
    """`step` reduces the second axis of an array of shape (outer, extent, inner)."""
    source, out = _arrays(call, formats)
    axes = _axes(call)
    results = math.prod(extent for axis, extent in enumerate(source.shape) if axis not in axes)
    call.require(out.size >= results, f"its output has {out.size} elements for {results} results")

    def run() -> None:
        values, shape = source, list(source.shape)
        for axis in axes:
            values = step(values.reshape(math.prod(shape[:axis]), shape[axis], -1))
            shape[axis] = 1
        out.reshape(-1)[:results] = values.reshape(-1)

    return run


def _mean(rows: NDArray) -> NDArray:
    if rows.dtype == np.uint8:
        return rows.sum(axis=1, dtype=np.uint8).astype(np.int64) // rows.shape[1]
    return np.cumsum(rows, axis=1, dtype=np.float32)[:, -1] / np.float32(rows.shape[1])


def _l2(rows: NDArray) -> NDArray:
    return np.sqrt(sum_squares(rows))


def sum_squares(rows: NDArray) -> NDArray[np.float32]:
    """Sums of squares along axis 1, from first to last.

    Each step is in double and each partial sum rounded to float (C's `s += pow(x, 2)`)."""
    squares = rows.astype(np.float64) ** 2
    total = np.zeros((rows.shape[0], *rows.shape[2:]), np.float32)
    for i in range(rows.shape[1]):
        total = (total + squares[:, i]).astype(np.float32)
    return total


def _arrays(call: CpuCall, formats: tuple[DType, ...]) -> tuple[NDArray, NDArray]:
    source, out = call.input(0, *formats), call.output(0, call.info(0).format)
    return (source, out) if source.dtype == np.float32 else (source.view(np.uint8), out.view(np.uint8))


def _axes(call: CpuCall) -> list[int]:
    axes = call.arg("axes", list)
    call.require(
        bool(axes) and all(axis in range(4) for axis in axes), f"axes are {axes}, but they must be some of 0 to 3"
    )
    return axes

"""Turns what a caller passes into the bytes of an input tensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npusim.errors import UsageError
from npusim.loader.cvimodel_types import DType
from npusim.runtime.frame import FrameAlignment, pad_frame
from npusim.runtime.quantize import quantize_input
from npusim.runtime.tensor import BoundTensor, TensorInfo


def input_array(value: ArrayLike, tensor: BoundTensor, alignment: FrameAlignment, *, reshape: bool = False) -> NDArray:
    """`value` as an array of the shape and type of `tensor.array`. Raises UsageError where it does not fit.

    `reshape` takes any shape of that size in its own order of elements; else only shapes that name the same axes."""
    info = tensor.info
    array = _typed(_as_array(value, info), info)
    if array.size in (tensor.array.size, info.num_elements):
        whole_buffer = info.aligned and array.shape == tensor.array.shape
        if not (reshape or whole_buffer or same_axes(array.shape, info.shape)):
            raise UsageError(
                f"input {info.name!r} has shape {array.shape}, but its tensor is {info.shape}: transpose it, or give "
                "reshape=True (--reshape) where its elements are in the tensor's order"
            )
    if array.size == tensor.array.size:
        return array.reshape(tensor.array.shape)
    if info.aligned and array.size == info.num_elements:
        padded = pad_frame(array, info.pixel_format, info.shape, info.num_bytes, alignment)
        if padded is not None:
            return padded.view(info.dtype)
    padding = f" (or its padded buffer of {tensor.array.size})" if info.aligned else ""
    raise UsageError(
        f"input {info.name!r} has shape {array.shape}, {array.size} elements, but its tensor is {info.shape}, "
        f"{info.num_elements}{padding}"
    )


def same_axes(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an array of shape `given` is one of shape `wanted`: axes of 1 do not count, and of more than four axes
    neighbours may be one, as the compiler folds them."""
    have, want = ([size for size in shape if size != 1] for shape in (given, wanted))
    if len(given) <= len(wanted):
        return have == want
    at = 0
    for size in want:
        folded = 1
        while folded < size and at < len(have):
            folded *= have[at]
            at += 1
        if folded != size:
            return False
    return at == len(have)


def _as_array(value: ArrayLike, info: TensorInfo) -> NDArray:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UsageError(f"input {info.name!r} is not an array: {error}") from None


def _typed(array: NDArray, info: TensorInfo) -> NDArray:
    if array.dtype.name == "bfloat16":
        array = array.view(np.uint16) if info.format == DType.BF16 else array.astype(np.float32)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            return quantize_input(np.ascontiguousarray(array, np.float32), info)
    if array.dtype.kind not in "biu":
        raise UsageError(f"input {info.name!r} has type {array.dtype}, but inputs are numbers")
    typed = array.astype(info.dtype)
    if info.format != DType.FP32 and not np.array_equal(typed, array):
        raise UsageError(
            f"input {info.name!r} holds values from {array.min()} to {array.max()}, which {info.format.name} "
            "cannot hold"
        )
    return typed

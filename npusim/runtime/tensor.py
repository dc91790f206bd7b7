"""A model's tensors: what is public about them, and where their values live."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.loader.cvimodel_types import DType, Tensor, Weight


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a model, with the fields of cviruntime's CVI_TENSOR."""

    name: str
    shape: tuple[int, int, int, int]
    """(n, c, h, w); the compiler folds other ranks into four dimensions."""
    format: DType
    """Element type as the model states it."""
    qscale: float
    """Float input is multiplied by it to give integers; 1.0 where nothing is quantised."""
    zero_point: int
    pixel_format: str
    """Such as "BGR_PLANAR"; empty for a plain tensor."""
    aligned: bool
    """The buffer holds camera frames whose rows and planes are padded."""
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    num_bytes: int
    """Size of the buffer, padding included."""

    def __repr__(self) -> str:
        scale = f", qscale {self.qscale:g}" if self.qscale != 1 else ""
        pixels = f", {self.pixel_format}{' aligned' if self.aligned else ''}" if self.pixel_format else ""
        return f"<TensorInfo {self.name} {self.shape} {self.format.name}{scale}{pixels}>"

    @property
    def dtype(self) -> np.dtype:
        """NumPy type of the tensor's arrays; bf16 is held as its bits in uint16, as in the vendor's Python binding."""
        return self.format.numpy

    @property
    def num_elements(self) -> int:
        """Elements of the tensor, without padding."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class BoundTensor:
    """A tensor and the memory that holds it. `array` has `info.shape`, or is the flat buffer of an aligned tensor."""

    info: TensorInfo
    array: NDArray


def info_of_tensor(tensor: Tensor, num_bytes: int) -> TensorInfo:
    """What is public about an activation that takes `num_bytes` bytes."""
    return TensorInfo(
        name=tensor.name,
        shape=tensor.shape,
        format=tensor.dtype,
        qscale=tensor.qscale,
        zero_point=tensor.zero_point,
        pixel_format=tensor.pixel_format,
        aligned=tensor.aligned,
        mean=tensor.mean,
        scale=tensor.scale,
        num_bytes=num_bytes,
    )


def info_of_weight(weight: Weight) -> TensorInfo:
    """What is public about a weight that CPU routines read."""
    num_bytes = math.prod(weight.shape) * weight.dtype.numpy.itemsize
    return TensorInfo(
        name=weight.name,
        shape=weight.shape,
        format=weight.dtype,
        qscale=1.0,
        zero_point=0,
        pixel_format="",
        aligned=False,
        mean=(),
        scale=(),
        num_bytes=num_bytes,
    )

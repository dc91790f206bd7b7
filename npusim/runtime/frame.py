"""Camera frames: tensors whose rows and planes are padded as the chip's video pre-processor pads them.

Source: setPixelAlign, setPixelFormatAndSize and yuv_size in sophgo/cviruntime src/common/neuron.cpp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.errors import FileFormatError
from npusim.loader.cvimodel_types import Tensor
from npusim.mem.lmem import align_up

Shape = tuple[int, int, int, int]

_PLANAR = ("BGR_PLANAR", "RGB_PLANAR", "RGBA_PLANAR")
_PACKED = ("BGR_PACKED", "RGB_PACKED")
_SEMI_PLANAR_YUV = ("YUV_NV12", "YUV_NV21")
PIXEL_FORMATS = ("", "GRAYSCALE", "YUV420_PLANAR", *_PLANAR, *_PACKED, *_SEMI_PLANAR_YUV)


@dataclass(frozen=True)
class FrameAlignment:
    """Rows and planes start at multiples of these, in bytes."""

    row: int
    plane: int


FRAME_ALIGNMENT = {
    "cv180x": FrameAlignment(64, 64),
    "cv181x": FrameAlignment(64, 64),
    "cv182x": FrameAlignment(64, 64),
    "cv183x": FrameAlignment(32, 0x1000),
}


def tensor_bytes(tensor: Tensor, alignment: FrameAlignment) -> int:
    """Bytes that `tensor` occupies. Raises FileFormatError for a pixel format that the runtime does not know.

    For a packed frame that is not square, the runtime and the compiler swap height and width and state fewer bytes
    than the TPU reads. Here such a tensor is as large as its rows."""
    if tensor.pixel_format not in PIXEL_FORMATS or (tensor.aligned and not tensor.pixel_format):
        known = ", ".join(PIXEL_FORMATS[1:])
        raise FileFormatError(
            f"tensor {tensor.name!r} has pixel format {tensor.pixel_format!r}; an aligned tensor has one of {known}"
        )
    if not tensor.aligned:
        return math.prod(tensor.shape) * tensor.dtype.numpy.itemsize
    n, _, h, w = tensor.shape
    if tensor.pixel_format in (*_SEMI_PLANAR_YUV, "YUV420_PLANAR"):
        return max(tensor.aligned_bytes, n * _yuv_frame_bytes(tensor.pixel_format, h, w, alignment))
    planes, stride, _, _ = _planes(tensor.pixel_format, tensor.shape, alignment)
    return max(tensor.aligned_bytes, planes * stride)


def pad_frame(
    pixels: NDArray, pixel_format: str, shape: Shape, num_bytes: int, alignment: FrameAlignment
) -> NDArray[np.uint8] | None:
    """Plain pixels, in the order of `pixel_format`, as a padded buffer.

    None for YUV, whose planes differ in size."""
    if pixel_format in (*_SEMI_PLANAR_YUV, "YUV420_PLANAR"):
        return None
    out = np.zeros(num_bytes, np.uint8)
    planes, stride, rows, width = _planes(pixel_format, shape, alignment)
    view = np.ndarray((planes, rows, width), np.uint8, out, 0, (stride, align_up(width, alignment.row), 1))
    view[...] = pixels.view(np.uint8).reshape(view.shape)
    return out


def _planes(pixel_format: str, shape: Shape, alignment: FrameAlignment) -> tuple[int, int, int, int]:
    """(planes, bytes from one plane to the next, rows of a plane, bytes of a row without padding).

    Packed shapes are (n, h, w, 3)."""
    n, c, h, w = shape
    if pixel_format in _PACKED:
        rows, width = (c, h * w) if w == 3 else (h, w * c)
        return n, rows * align_up(width, alignment.row), rows, width
    stride = h * align_up(w, alignment.row)
    return n * c, align_up(stride, alignment.plane) if pixel_format in _PLANAR else stride, h, w


def _yuv_frame_bytes(pixel_format: str, h: int, w: int, alignment: FrameAlignment) -> int:
    """Bytes of a plane of luma, and of chroma at half the height: two planes, or one interleaved."""
    if pixel_format in _SEMI_PLANAR_YUV:
        chroma_at = align_up(h * align_up(w, alignment.row), alignment.plane)
        return align_up(chroma_at + h // 2 * align_up(w, alignment.row), alignment.plane)
    plane = h // 2 * align_up(w // 2, alignment.row)
    u_at = align_up(h * align_up(w, 2 * alignment.row), alignment.plane)
    return align_up(align_up(u_at + plane, alignment.plane) + plane, alignment.plane)

"""Camera frames: tensors whose rows and planes are padded as the chip's video pre-processor pads them.

Source: setPixelAlign, setPixelFormatAndSize and yuv_size in sophgo/cviruntime src/common/neuron.cpp.
"""

from __future__ import annotations

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
    """What rows and planes start at multiples of, in bytes."""

    row: int
    plane: int


FRAME_ALIGNMENT = {
    "cv180x": FrameAlignment(64, 64),
    "cv181x": FrameAlignment(64, 64),
    "cv182x": FrameAlignment(64, 64),
    "cv183x": FrameAlignment(32, 0x1000),
}


def tensor_bytes(tensor: Tensor, alignment: FrameAlignment) -> int:
    """Bytes that `tensor` occupies. Raises FileFormatError for a pixel format that the runtime does not know."""
    if tensor.pixel_format not in PIXEL_FORMATS or (tensor.aligned and not tensor.pixel_format):
        known = ", ".join(PIXEL_FORMATS[1:])
        raise FileFormatError(f"tensor {tensor.name!r} has pixel format {tensor.pixel_format!r}; an aligned tensor has one of {known}")
    n, c, h, w = tensor.shape
    if not tensor.aligned:
        return n * c * h * w * tensor.dtype.numpy.itemsize
    if tensor.aligned_bytes:
        return tensor.aligned_bytes
    if tensor.pixel_format in _PLANAR:
        return n * c * align_up(align_up(w, alignment.row) * h, alignment.plane)
    if tensor.pixel_format in _PACKED:
        return n * h * align_up(w * c, alignment.row)
    if tensor.pixel_format == "GRAYSCALE":
        return n * c * h * align_up(w, alignment.row)
    return n * _yuv_frame_bytes(tensor.pixel_format, h, w, alignment)


def pad_frame(pixels: NDArray, pixel_format: str, shape: Shape, num_bytes: int, alignment: FrameAlignment) -> NDArray[np.uint8] | None:
    """Plain pixels in the order of `pixel_format` (n*c*h*w of them) as a padded buffer; None for YUV, whose planes differ in size."""
    n, c, h, w = shape
    out = np.zeros(num_bytes, np.uint8)
    if pixel_format in _PLANAR or pixel_format == "GRAYSCALE":
        row = align_up(w, alignment.row)
        plane = align_up(row * h, alignment.plane) if pixel_format in _PLANAR else row * h
        view = np.ndarray((n * c, h, w), np.uint8, out, 0, (plane, row, 1))
    elif pixel_format in _PACKED:
        row = align_up(w * c, alignment.row)
        view = np.ndarray((n, h, w * c), np.uint8, out, 0, (row * h, row, 1))
    else:
        return None
    view[...] = pixels.view(np.uint8).reshape(view.shape)
    return out


def _yuv_frame_bytes(pixel_format: str, h: int, w: int, alignment: FrameAlignment) -> int:
    """A plane of luma, then two planes of chroma or one of interleaved chroma, at half the height."""
    if pixel_format in _SEMI_PLANAR_YUV:
        chroma_at = align_up(h * align_up(w, alignment.row), alignment.plane)
        return align_up(chroma_at + h // 2 * align_up(w, alignment.row), alignment.plane)
    plane = h // 2 * align_up(w // 2, alignment.row)
    u_at = align_up(h * align_up(w, 2 * alignment.row), alignment.plane)
    return align_up(align_up(u_at + plane, alignment.plane) + plane, alignment.plane)

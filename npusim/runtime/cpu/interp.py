"""`interp`: resizing, in float32 and in the source's order.

Source: sophgo/cviruntime src/common/cpu_function/interpolation.cpp."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall

_F = np.float32
Floats = NDArray[np.float32]
Size = tuple[int, int]


def interp(call: CpuCall) -> Bound:
    """Resizes (n, c, h, w) as `coordinate_transformation_mode` says.

    An unknown mode is align_corners, as in the source."""
    mode = call.arg("coordinate_transformation_mode", str)
    source, out = call.input(0), call.output(0, call.info(0).format)
    size = _output_size(call, mode)
    if mode.startswith("nearest"):
        resize = partial(_nearest, size=size, half_pixel=mode == "nearest_half_pixel")
    else:
        call.input(0, DType.FP32)
        resize = partial(_METHODS.get(mode, _align_corners), size=size)
    num_results = source.shape[0] * source.shape[1] * size[0] * size[1]
    call.require(num_results <= out.size, f"{num_results} results do not fit its output of {out.size}")

    def run() -> None:
        result = resize(source)
        out.reshape(-1)[: result.size] = result.reshape(-1)

    return run


def _output_size(call: CpuCall, mode: str) -> Size:
    height, width = call.arg("height", int), call.arg("width", int)
    shrink, zoom = call.arg("shrink_factor", int), call.arg("zoom_factor", int)
    call.require(shrink >= 0 and zoom >= 0, f"shrink_factor {shrink} and zoom_factor {zoom} must not be negative")
    call.require(
        call.arg("pad_beg", int) == 0 and call.arg("pad_end", int) == 0,
        "padding is not supported; the runtime asserts on it",
    )
    call.require(height >= 0 and width >= 0, f"a size of {height} by {width} is negative")
    if mode != "align_corners":
        return (height, width) if height and width else call.outputs[0].info.shape[2:]
    if height and width and not (bool(shrink) ^ bool(zoom)):
        return height, width
    call.require(bool(shrink or zoom), "it gives neither a size nor a factor")
    sizes = [(extent - 1) // shrink + 1 if shrink else extent for extent in call.info(0).shape[2:]]
    sizes = [extent + (extent - 1) * (zoom - 1) if zoom else extent for extent in sizes]
    return sizes[0], sizes[1]


def _upsample(image: Floats, size: Size, pytorch: bool) -> Floats:
    rows, columns = (_taps(extent, target, pytorch) for extent, target in zip(image.shape[2:], size, strict=True))
    y1, y2, dy1, dy2 = (a[:, None] for a in rows)
    x1, x2, dx1, dx2 = columns
    total = dx2 * dy2 * image[..., y1, x1]
    total = total + dx1 * dy2 * image[..., y1, x2]
    total = total + dx2 * dy1 * image[..., y2, x1]
    return total + dx1 * dy1 * image[..., y2, x2]


def _taps(extent: int, target: int, pytorch: bool) -> tuple[NDArray, NDArray, Floats, Floats]:
    """(first, second) source index and distance to each, for every output index of one axis."""
    scale = _F(target) / _F(extent)
    count = int(_F(extent) * scale)
    place = np.arange(count, dtype=np.float32)
    if scale != 1:
        place = (place + _F(0.5)) / scale - _F(0.5) if count > 1 or not pytorch else np.zeros(count, np.float32)
    place = np.maximum(_F(0), np.minimum(place, _F(extent - 1)))
    first = np.minimum(place.astype(np.int64), extent - 1)
    second = np.minimum(first + 1, extent - 1)
    same = first == second
    to_first, to_second = (np.where(same, _F(0.5), np.abs(place - i.astype(np.float32))) for i in (first, second))
    return first, second, to_first, to_second


def _nearest(image: NDArray, size: Size, half_pixel: bool) -> NDArray:
    picks = []
    for extent, target in zip(image.shape[2:], size, strict=True):
        scale, index = _F(extent) / _F(target), np.arange(target)
        if half_pixel:
            pick = np.ceil((index + 0.5) * float(scale) - 1.0).astype(np.int64)
        else:
            pick = (index.astype(np.float32) * scale).astype(np.int64)
        picks.append(np.clip(pick, 0, extent - 1))
    return image[:, :, picks[0][:, None], picks[1]]


def _asymmetric(image: Floats, size: Size) -> Floats:
    """Bilinear without an offset.

    A coordinate that is whole takes no part in the weights, which changes the rounding."""
    places = []
    for extent, target in zip(image.shape[2:], size, strict=True):
        scale = _F(extent) / _F(target)
        place = np.minimum(np.arange(target).astype(np.float32) * scale, _F(extent - 1))
        low, high = np.floor(place), np.ceil(place)
        places.append((low.astype(np.int64), high.astype(np.int64), high - place, place - low))
    (low_h, high_h, up_h, down_h), (w0, w1, to_w1, to_w0) = places
    h0, h1, to_h1, to_h0 = low_h[:, None], high_h[:, None], up_h[:, None], down_h[:, None]
    v00, v01, v10, v11 = image[..., h0, w0], image[..., h0, w1], image[..., h1, w0], image[..., h1, w1]
    whole_h, whole_w = h0 == h1, w0 == w1
    both = v00 * (to_w1 * to_h1) + v01 * (to_w0 * to_h1) + v10 * (to_w1 * to_h0) + v11 * (to_w0 * to_h0)
    only_w, only_h = v00 * to_w1 + v01 * to_w0, v00 * to_h1 + v10 * to_h0
    return np.where(whole_h, np.where(whole_w, v00, only_w), np.where(whole_w, only_h, both))


def _align_corners(image: Floats, size: Size) -> Floats:
    if image.shape[2:] == size:
        return image
    places = []
    for extent, target in zip(image.shape[2:], size, strict=True):
        step = _F(extent - 1) / _F(target - 1) if target > 1 else _F(0)
        place = step * np.arange(target).astype(np.float32)
        low = place.astype(np.int64)
        behind = place - low.astype(np.float32)
        places.append((low, np.minimum(low + 1, extent - 1), _F(1) - behind, behind))
    (low_h, high_h, up_h, down_h), (w0, w1, near_w, far_w) = places
    h0, h1, near_h, far_h = low_h[:, None], high_h[:, None], up_h[:, None], down_h[:, None]
    upper = near_w * image[..., h0, w0] + far_w * image[..., h0, w1]
    lower = near_w * image[..., h1, w0] + far_w * image[..., h1, w1]
    return near_h * upper + far_h * lower


_METHODS: dict[str, Callable[..., Floats]] = {
    "half_pixel": partial(_upsample, pytorch=False),
    "pytorch_half_pixel": partial(_upsample, pytorch=True),
    "asymmetric": _asymmetric,
}

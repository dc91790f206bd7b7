"""`deform_im2col`, `deform_conv2d`: modulated deformable convolution, in float32 and in the source's order.

Source: sophgo/cviruntime src/common/cpu_function/deform_im2col.hpp, deformableconv.cpp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall

_F = np.float32
Floats = NDArray[np.float32]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Geometry of a deformable convolution; pairs are (vertical, horizontal)."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    def output_size(self, image: Pair) -> Pair:
        """(height, width) of the result for an image of (height, width)."""
        sizes = [
            (extent + 2 * pad - (step * (taps - 1) + 1)) // stride + 1
            for extent, pad, step, taps, stride in zip(
                image, self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        ]
        return sizes[0], sizes[1]


def deform_im2col(call: CpuCall) -> Bound:
    """Columns (c * kh * kw, oh * ow) of input 0.

    They are sampled at the offsets in input 1 and multiplied by the mask in input 2."""
    source, offsets, mask = (call.input(i, DType.FP32) for i in range(3))
    out = call.output(0, DType.FP32)
    window = _window(call, (call.arg("kernel_h", int), call.arg("kernel_w", int)))
    num_columns = _checked(call, window, source, offsets, mask)
    call.require(out.size == num_columns * source.shape[0], f"its output has {out.size} elements")

    def run() -> None:
        for b in range(source.shape[0]):
            out.reshape(source.shape[0], -1)[b] = _columns(window, source[b], offsets[b], mask[b]).reshape(-1)

    return run


def deform_conv2d(call: CpuCall) -> Bound:
    """Convolution of input 0 with weights (input 1) and bias (input 2).

    It samples at the offsets in input 3 and multiplies by the mask in input 4."""
    source, weight, bias, offsets, mask = (call.input(i, DType.FP32) for i in range(5))
    out = call.output(0, DType.FP32)
    window = _window(call, (weight.shape[2], weight.shape[3]))
    taps = source.shape[1] * weight.shape[2] * weight.shape[3]
    num_pixels = _checked(call, window, source, offsets, mask) // taps
    num_filters = weight.shape[0]
    call.require(
        weight.size == num_filters * taps and bias.size == num_filters,
        f"weights {weight.shape} and bias {bias.shape} do not fit",
    )
    call.require(out.size == source.shape[0] * num_filters * num_pixels, f"its output has {out.size} elements")
    filters = weight.reshape(num_filters, taps)

    def run() -> None:
        for b in range(source.shape[0]):
            columns = _columns(window, source[b], offsets[b], mask[b])
            total = np.zeros((num_filters, num_pixels), np.float32)
            for k in range(taps):
                total += filters[:, k : k + 1] * columns[k]
            out.reshape(source.shape[0], num_filters, num_pixels)[b] = total + bias.reshape(-1, 1)

    return run


def _window(call: CpuCall, kernel: Pair) -> Window:
    stride, padding = (
        (call.arg("stride_h", int), call.arg("stride_w", int)),
        (call.arg("padding_t", int), call.arg("padding_l", int)),
    )
    dilation, groups = (call.arg("dilation_h", int), call.arg("dilation_w", int)), call.arg("deform_group", int)
    window = Window(kernel, stride, padding, dilation, groups)
    call.require(min(*kernel, *stride, *dilation, groups) > 0 and min(padding) >= 0, f"{window} is not possible")
    return window


def _checked(call: CpuCall, window: Window, source: Floats, offsets: Floats, mask: Floats) -> int:
    """Number of elements in the columns of one image."""
    n, c, h, w = source.shape
    oh, ow = window.output_size((h, w))
    taps = window.kernel[0] * window.kernel[1]
    call.require(oh > 0 and ow > 0 and c % window.groups == 0, f"{window} does not fit an image of {source.shape}")
    points = n * window.groups * taps * oh * ow
    call.require(
        offsets.size == 2 * points and mask.size == points, f"offsets {offsets.shape} and mask {mask.shape} do not fit"
    )
    return c * taps * oh * ow


def _columns(window: Window, image: Floats, offsets: Floats, mask: Floats) -> Floats:
    """Samples of one image (c, h, w), shape (c * kh * kw, oh * ow)."""
    c, h, w = image.shape
    oh, ow = window.output_size((h, w))
    kh, kw = window.kernel
    moves = offsets.reshape(window.groups, kh, kw, 2, oh, ow)
    base_y = (
        np.arange(oh)[:, None] * window.stride[0]
        - window.padding[0]
        + np.arange(kh)[:, None, None, None] * window.dilation[0]
    )
    base_x = np.arange(ow) * window.stride[1] - window.padding[1] + np.arange(kw)[:, None, None] * window.dilation[1]
    y, x = base_y.astype(np.float32) + moves[:, :, :, 0], base_x.astype(np.float32) + moves[:, :, :, 1]
    samples = _sample(image.reshape(window.groups, -1, h, w), y, x) * mask.reshape(window.groups, 1, kh, kw, oh, ow)
    return samples.reshape(c * kh * kw, oh * ow)


def _sample(groups: Floats, y: Floats, x: Floats) -> Floats:
    """Bilinear samples of (g, c, h, w) at the points (g, ...), shape (g, c, ...).

    They are 0 from one pixel outside the image on."""
    h, w = groups.shape[2:]
    inside = (y > -1) & (x > -1) & (y < h) & (x < w)
    y, x = np.where(inside, y, _F(0)), np.where(inside, x, _F(0))
    top, left = np.floor(y), np.floor(x)
    ly, lx = y - top, x - left
    hy, hx = _F(1) - ly, _F(1) - lx
    row, column = top.astype(np.int64), left.astype(np.int64)
    group = np.arange(len(groups)).reshape(-1, *(1,) * (y.ndim - 1))
    total: Floats | None = None
    for down, right, weight in ((0, 0, hy * hx), (0, 1, hy * lx), (1, 0, ly * hx), (1, 1, ly * lx)):
        r, c = row + down, column + right
        there = (r >= 0) & (r < h) & (c >= 0) & (c < w)
        value = np.moveaxis(groups[group, :, np.clip(r, 0, h - 1), np.clip(c, 0, w - 1)], -1, 1)
        part = weight[:, None] * np.where(there[:, None], value, _F(0))
        total = part if total is None else total + part
    assert total is not None
    return np.where(inside[:, None], total, _F(0))

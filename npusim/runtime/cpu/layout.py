"""`transpose`, `pixelshuffle`, `preprocess`.

Source: sophgo/cviruntime src/common/cpu_function/transpose.cpp, pixelshuffle.cpp, preprocess.cpp."""

from __future__ import annotations

import numpy as np

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall


def transpose(call: CpuCall) -> Bound:
    """(n, h, w, c) float32 to (n, c, h, w), the shape of the output."""
    source, out = call.input(0, DType.FP32), call.output(0, DType.FP32)
    n, c, h, w = out.shape
    call.require(source.size == out.size, f"{source.size} elements do not fill its output of {out.size}")

    def run() -> None:
        out[...] = source.reshape(n, h, w, c).transpose(0, 3, 1, 2)

    return run


def pixelshuffle(call: CpuCall) -> Bound:
    """Depth to space in ONNX's mode DCR, for elements of one byte."""
    source, out = call.input(0, DType.INT8, DType.UINT8), call.output(0, call.info(0).format)
    factor = call.arg("upscale_factor", int)
    call.require(call.arg("mode", str) == "DCR", f"mode is {call.args['mode']!r}, but the runtime only knows DCR")
    n, c, h, w = source.shape
    call.require(factor > 0 and c % (factor * factor) == 0, f"upscale_factor is {factor} for {c} channels")
    shape = (n, c // (factor * factor), h * factor, w * factor)
    call.require(out.shape == shape, f"its output has shape {out.shape}, but {shape} is needed")

    def run() -> None:
        blocks = source.reshape(n, factor, factor, shape[1], h, w)
        out[...] = blocks.transpose(0, 3, 4, 1, 5, 2).reshape(shape)

    return run


def preprocess(call: CpuCall) -> Bound:
    """Channels in `color_order`, times raw_scale (unless it is 0), minus mean, times scale; all in float32."""
    source, out = call.input(0, DType.FP32), call.output(0, DType.FP32)
    raw_scale, scale = np.float32(call.arg("raw_scale", float)), np.float32(call.arg("scale", float))
    mean, order = np.array(call.arg("mean", list), np.float32), call.arg("color_order", list)
    channels = source.shape[1]
    call.require(out.shape == source.shape, f"its output has shape {out.shape}, but its input {source.shape}")
    call.require(mean.size in (0, channels), f"mean has {mean.size} values for {channels} channels")
    call.require(not order or sorted(order) == list(range(channels)), f"color_order is {order} for {channels} channels")

    def run() -> None:
        values = source.copy()
        if order:
            values[:, order] = source
        if raw_scale != 0:
            values *= raw_scale
        if mean.size:
            values -= mean[:, None, None]
        out[...] = values * scale

    return run

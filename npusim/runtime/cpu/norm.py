"""`instance_norm`, `softmax`, `cumsum`.

Source: sophgo/cviruntime src/common/cpu_function/instancenorm.cpp, softmax.cpp, cumsum.cpp."""

from __future__ import annotations

import math

import numpy as np

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall
from npusim.runtime.cpu.expf import expf
from npusim.runtime.cpu.reduce import sum_squares

_F = np.float32


def instance_norm(call: CpuCall) -> Bound:
    """(x - mean) / sqrt(variance + epsilon) + bias, with two deviations that the runtime has.

    It takes the last batch's mean and variance for all batches. And only the first channel's scale counts: it
    divides both of them."""
    values, scale, bias, out = (*(call.input(i, DType.FP32) for i in range(3)), call.output(0, DType.FP32))
    epsilon = _F(call.arg("variance_epsilon", float))
    _, c, h, w = values.shape
    call.require(scale.size >= 1 and bias.size == c, f"bias has {bias.size} values for {c} channels")
    call.require(out.size == values.size, f"its output has {out.size} elements for {values.size}")

    def run() -> None:
        last = values[-1].reshape(c, h * w)
        mean = np.cumsum(last, axis=1, dtype=np.float32)[:, -1] / _F(h * w)
        variance = sum_squares(last - mean[:, None]) / _F(h * w)
        factor = _F(1) / scale.flat[0]
        mean, variance = mean * factor, variance * factor
        shifted = values - mean[:, None, None]
        divisor = np.sqrt((variance + epsilon).astype(np.float64))
        out[...] = (shifted / divisor[:, None, None] + bias.reshape(-1)[:, None, None]).reshape(out.shape)

    return run


def softmax(call: CpuCall) -> Bound:
    """exp(x - max) / sum along `axis`; sums in float32, from first to last.

    The source starts every maximum from the tensor's first values, so the maximum subtracted from a later row can be
    larger than the row's own."""
    values, out = call.input(0, DType.FP32), call.output(0, DType.FP32)
    axis = call.axis()
    call.require(out.size == values.size, f"its output has {out.size} elements for {values.size}")
    shape = values.shape
    lanes = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))

    def run() -> None:
        rows = values.reshape(lanes)
        powers = expf(rows - np.maximum(rows.max(axis=1, keepdims=True), rows[:1, :1]))
        total = np.cumsum(powers, axis=1, dtype=np.float32)[:, -1:]
        out[...] = (powers / total).reshape(out.shape)

    return run


def cumsum(call: CpuCall) -> Bound:
    """Running sum along `axis`, in float32."""
    values, out = call.input(0, DType.FP32), call.output(0, DType.FP32)
    axis = call.axis()
    call.require(out.shape == values.shape, f"its output has shape {out.shape}, but its input {values.shape}")

    def run() -> None:
        np.cumsum(values, axis=axis, dtype=np.float32, out=out)

    return run

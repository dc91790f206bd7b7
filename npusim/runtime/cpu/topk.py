"""`topk`. The vendor publishes no source for it. What it does was observed by running it in libcviruntime."""

from __future__ import annotations

import math

import numpy as np

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall


def topk(call: CpuCall) -> Bound:
    """The K largest (or smallest) values of each row along `axis`, in order, in float32.

    `axis` is the last one that is longer than 1."""
    values, out = call.input(0, DType.FP32), call.output(0, DType.FP32)
    axis, count = call.axis(), call.arg("K", int)
    shape = call.info(0).shape
    num_rows, length = math.prod(shape[:axis]), shape[axis]
    call.require(call.flag("sorted"), "sorted is false, which the runtime does not support")
    call.require(
        math.prod(shape[axis + 1 :]) == 1, f"axis is {axis}, but the runtime only takes the last axis of {shape}"
    )
    call.require(
        1 <= count <= length and out.size == num_rows * count,
        f"K is {count}, rows have {length}, the output {out.size} elements",
    )
    rows, results = values.reshape(num_rows, length), out.reshape(num_rows, count)
    largest = call.flag("largest")

    def run() -> None:
        ordered = np.sort(rows, axis=1)
        results[...] = ordered[:, : -count - 1 : -1] if largest else ordered[:, :count]

    return run

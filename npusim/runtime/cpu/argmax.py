"""`argmax`, `argmax_with_conf`, `argmax_v3`: the CPU half of an argmax, after the TPU has found the maximum of each
tile.

Source: sophgo/cviruntime src/common/cpu_function/argmax.cpp, argmax_v2.cpp, argmax_v3.cpp."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall, bf16_to_float

TILE = 256
Found = tuple[NDArray[np.float32], NDArray[np.int64]]


def argmax(call: CpuCall) -> Bound:
    """Index of the first largest value along the last used axis, as float32.

    Values below 0 count as 0."""
    find, index = _finder(call, floor=0), call.output(0, DType.FP32)

    def run() -> None:
        _, found = find()
        index.reshape(-1)[: len(found)] = found

    return run


def argmax_with_conf(call: CpuCall) -> Bound:
    """Pairs of (largest value, its index) as float32; int8 values are multiplied by scale."""
    find, pairs = _finder(call, values_per_row=2), call.output(0, DType.FP32)
    scale = _scale(call)

    def run() -> None:
        largest, found = find()
        out = pairs.reshape(-1)[: 2 * len(found)].reshape(-1, 2)
        out[:, 0] = largest * scale
        out[:, 1] = found

    return run


def argmax_v3(call: CpuCall) -> Bound:
    """Index of the first largest value as float32, and the value where there is a second output.

    int8 values are multiplied by scale."""
    find, index = _finder(call), call.output(0, DType.FP32)
    value = call.output(1, DType.FP32) if len(call.outputs) > 1 else None
    scale = _scale(call)

    def run() -> None:
        largest, found = find()
        index.reshape(-1)[: len(found)] = found
        if value is not None:
            value.reshape(-1)[: len(found)] = largest * scale

    return run


def _scale(call: CpuCall) -> np.float32:
    return np.float32(call.arg("scale", float, 1.0)) if call.info(0).format == DType.INT8 else np.float32(1)


def _finder(call: CpuCall, floor: int | None = None, values_per_row: int = 1) -> Callable[[], Found]:
    """A function that finds (largest value as float32, its index) of each row.

    bf16 is compared by its bits as int16, as in the source. So among negative values the smallest wins."""
    axis = call.axis()
    shape = call.info(0).shape
    num_rows, length = math.prod(shape[:axis]), shape[axis]
    num_tiles = -(-length // TILE)
    kind = np.dtype(np.int8 if call.info(0).format == DType.INT8 else np.int16)
    flat, flat_maxima = (call.input(i, DType.INT8, DType.BF16).view(kind).reshape(-1) for i in (0, 1))
    num_maxima = num_rows * num_tiles
    call.require(
        flat_maxima.size >= num_maxima,
        f"it has {flat_maxima.size} tile maxima, but {num_rows} rows of {num_tiles} are needed",
    )
    for output in call.outputs:
        room = output.array.size // values_per_row
        call.require(room >= num_rows, f"output {output.info.name!r} has room for {room} of {num_rows} rows")
    values = flat[: num_rows * length].reshape(num_rows, length)
    maxima = flat_maxima[:num_maxima].reshape(num_rows, num_tiles)

    def find() -> Found:
        tops = maxima if floor is None else np.maximum(maxima, floor)
        tile = tops.argmax(axis=1)
        largest = np.take_along_axis(tops, tile[:, None], 1)
        columns = tile[:, None] * TILE + np.arange(TILE)
        hits = (np.take_along_axis(values, np.minimum(columns, length - 1), 1) == largest) & (columns < length)
        as_float = (
            bf16_to_float(largest[:, 0].view(np.uint16)) if kind == np.int16 else largest[:, 0].astype(np.float32)
        )
        return as_float, tile * TILE + hits.argmax(axis=1)

    return find

"""`embedding`, `gathernd_tf`, `gatherelements_pt`.

The source reads past its tensors where an index is out of range; here that is an error. Source: sophgo/cviruntime
src/common/cpu_function/embedding.cpp, gathernd.cpp, gatherelements_pt.cpp."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from npusim.errors import UsageError
from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall

_INDEX_TYPES = (DType.INT16, DType.UINT16, DType.INT32, DType.UINT32)


def embedding(call: CpuCall) -> Bound:
    """Rows of a table (input 1) by the indices in input 0. A row is a feature vector of shape[1] elements."""
    indices, table = call.input(0, *_INDEX_TYPES), call.input(1)
    out = call.output(0, call.info(1).format)
    width = call.info(1).shape[1]
    table = table.reshape(-1, width)
    call.require(
        out.size == indices.size * width,
        f"{indices.size} rows of {width} elements do not fill its output of {out.size}",
    )

    def run() -> None:
        rows = _checked(call, indices.reshape(-1), len(table))
        out.reshape(-1, width)[...] = table[rows]

    return run


def gatherelements(call: CpuCall) -> Bound:
    """out[i, j, k, l] = source with the coordinate on `axis` replaced by indices[i, j, k, l]."""
    source, indices, out = call.input(0, DType.FP32), call.input(1, DType.INT32), call.output(0, DType.FP32)
    axis = call.axis()
    fits = all(i <= s for d, (i, s) in enumerate(zip(indices.shape, source.shape, strict=True)) if d != axis)
    call.require(fits, f"indices of shape {indices.shape} exceed the source's {source.shape} off axis {axis}")
    call.require(out.size == indices.size, f"{indices.size} elements do not fill its output of {out.size}")
    grid = list(np.ogrid[tuple(slice(extent) for extent in indices.shape)])

    def run() -> None:
        places = [*grid[:axis], _checked(call, indices, source.shape[axis]), *grid[axis + 1 :]]
        out[...] = source[tuple(places)].reshape(out.shape)

    return run


def gathernd(call: CpuCall) -> Bound:
    """Slices of the source by index tuples.

    `indice_dims` is the rank that the indices had before the compiler made it four."""
    source, indices, out = call.input(0, DType.FP32), call.input(1, DType.INT32), call.output(0, DType.FP32)
    batch_dims, index_rank = call.arg("batch_dims", int), call.arg("indice_dims", int)
    call.require(
        1 <= index_rank <= 4 and 0 <= batch_dims < index_rank,
        f"batch_dims {batch_dims} and indice_dims {index_rank} do not fit",
    )
    width = indices.shape[index_rank - 1]
    call.require(
        batch_dims + width <= 4,
        f"tuples of {width} indices behind {batch_dims} batch dimensions exceed the source's four",
    )
    num_batches = math.prod(indices.shape[:batch_dims])
    extents = (math.prod(source.shape[:batch_dims]), *source.shape[batch_dims : batch_dims + width])
    slice_size = source.size // math.prod(extents)
    tuples = indices.reshape(num_batches, -1, width)
    num_slices = num_batches * tuples.shape[1]
    call.require(num_batches == extents[0], f"{num_batches} batches of indices meet {extents[0]} batches of data")
    call.require(
        out.size == num_slices * slice_size,
        f"{num_slices} slices of {slice_size} elements do not fill its output of {out.size}",
    )
    batch = np.arange(num_batches)[:, None]

    def run() -> None:
        places = (batch, *(_checked(call, tuples[..., i], extents[i + 1]) for i in range(width)))
        out.reshape(num_batches, -1, slice_size)[...] = source.reshape(*extents, slice_size)[places]

    return run


def _checked(call: CpuCall, indices: NDArray, extent: int) -> NDArray[np.int64]:
    places = indices.astype(np.int64)
    bad = (places < 0) | (places >= extent)
    if bad.any():
        value = int(places[bad].flat[0])
        raise UsageError(
            f"{call.function} for {call.outputs[0].info.name!r} got index {value}, but its source has {extent} rows"
        )
    return places

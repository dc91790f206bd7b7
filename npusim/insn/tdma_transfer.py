"""Copies elements from one tensor to another: by pairs of views that are found when an instruction is bound, or element
by element in order."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from npusim.errors import AddressError
from npusim.insn.base import Bound
from npusim.insn.operand import Place
from npusim.insn.tdma_base import Transfer
from npusim.mem.gmem import TensorGmem, gmem_tensor
from npusim.mem.lmem import TensorLmem, lmem_tensor
from npusim.mem.region import Region
from npusim.mem.tensor import LocalTensor
from npusim.numerics.convert import looked_up
from npusim.state import State

Tensor = TensorLmem | TensorGmem
MAX_ORDERED = 1 << 24
"""Elements of a transfer onto itself, each of which costs some 50 bytes while it is bound. LMEM of the largest chip has
2**20 bytes."""


def bound_tensor(state: State, place: Place, what: str) -> Tensor:
    """A place in LMEM or GMEM, bound to memory."""
    assert not isinstance(place, Region)
    return lmem_tensor(state, place, what) if isinstance(place, LocalTensor) else gmem_tensor(state, place, what)


def bound_sides(state: State, insn: Transfer) -> tuple[Tensor, Tensor]:
    """(source, destination) of an instruction that has one tensor each."""
    (src,), (dst,) = insn.sources(), insn.destinations()
    return bound_tensor(state, src, "src"), bound_tensor(state, dst, "dst")


def transfer(src: Tensor, dst: Tensor, table: NDArray | None = None) -> Bound:
    """A function that copies `src` to `dst`, element after element in the order of both shapes; if there is a `table`,
    each element is looked up in it.

    Both must have the same number of elements. If source and destination overlap, or elements of the destination
    overlap, the result is that of copying one element at a time in ascending order."""
    if _may_collide(src, dst):
        steps = _ordered(src, dst, table)
        if steps is not None:
            return chain(steps)
    pairs = _pairs(src, dst)
    if pairs is None:
        return lambda: dst.store(_looked_up(table, src.load()).reshape(dst.shape))
    if table is None:
        return chain([partial(np.copyto, to, of) for to, of in pairs])
    return chain([partial(_convert, to, of, table) for to, of in pairs])


def transfer_to_table(src: Tensor, dst: Tensor, table: NDArray) -> Bound:
    """The same between tensors of one format, but all elements are copied first, and then each is looked up in its
    place. That changes something only where they overlap."""
    if not _may_collide(src, dst):
        return transfer(src, dst, table)
    return chain([transfer(src, dst), transfer(dst, dst, table)])


def transfer_nc_transposed(src: TensorGmem, dst: TensorLmem, table: NDArray | None = None) -> Bound:
    """A function that copies `src`, (n, c, h, w), to `dst`, (c, n, h', w'), element after element in the order of
    `src`."""
    transposed = src.transposed(1, 0, 2, 3)
    if dst.is_distinct:
        return transfer(transposed, dst, table)
    c, n = dst.shape[:2]
    _check_ordered(math.prod(dst.shape))
    write = _byte_addrs(dst).reshape(c, n, -1).swapaxes(0, 1).reshape(-1, dst.cover.itemsize)
    return partial(_step, src.memory, _byte_addrs(src), dst.memory, write, dtype=src.cover.dtype, table=table)


def transfer_rows(pairs: list[tuple[Tensor, Tensor]], table: NDArray | None = None) -> Bound:
    """A function for several transfers between GMEM and LMEM that take turns: row 0 (n = 0) of each (source,
    destination), then row 1 of each, and so on."""
    num_rows, row_stride = pairs[0][1].shape[0], pairs[0][1].cover.strides[0]
    spans = [dst.span for _, dst in pairs]
    reach = max(end for _, end in spans) - min(start for start, _ in spans) - (num_rows - 1) * row_stride
    if len(pairs) == 1 or num_rows == 1 or reach <= row_stride:
        return chain([transfer(src, dst, table) for src, dst in pairs])
    _check_ordered(sum(math.prod(dst.shape) for _, dst in pairs))
    read, write = (
        np.hstack([_byte_addrs(pair[side]).reshape(num_rows, -1) for pair in pairs]).reshape(
            -1, pairs[0][side].cover.itemsize
        )
        for side in (0, 1)
    )
    src, dst = pairs[0]
    return partial(_step, src.memory, read, dst.memory, write, dtype=src.cover.dtype, table=table)


def chain(calls: list[Bound]) -> Bound:
    """One function that calls several."""
    if len(calls) == 1:
        return calls[0]

    def run() -> None:
        for call in calls:
            call()

    return run


def _convert(to: NDArray, of: NDArray, table: NDArray) -> None:
    to[...] = looked_up(table, of)


def _looked_up(table: NDArray | None, values: NDArray) -> NDArray:
    return values if table is None else looked_up(table, values).astype(table.dtype, copy=False)


def _pairs(src: Tensor, dst: Tensor) -> list[tuple[NDArray, NDArray]] | None:
    """Pairs (destination view, source view) of equal shape that together are the transfer; None if there are none."""
    if isinstance(src, TensorGmem) and src.shape != dst.shape:
        src = src.reshaped(dst.shape)
    elif isinstance(dst, TensorGmem) and src.shape != dst.shape:
        dst = dst.reshaped(src.shape)
    if src.shape != dst.shape:
        return None
    if src.view is not None:
        return [(part, src.view[:, channels].reshape(part.shape)) for channels, part in dst.parts]
    if dst.view is not None:
        return [(dst.view[:, channels].reshape(part.shape), part) for channels, part in src.parts]
    if [channels for channels, _ in src.parts] != [channels for channels, _ in dst.parts]:
        return None
    return [(to, of) for (_, to), (_, of) in zip(dst.parts, src.parts, strict=True)]


def _may_collide(src: Tensor, dst: Tensor) -> bool:
    """Whether the order may matter, because bytes may be both read and written, or written twice. It looks only at
    offsets within a lane."""
    return _share_memory(src, dst) or not dst.is_distinct


def _share_memory(src: Tensor, dst: Tensor) -> bool:
    same = type(src) is type(dst) and np.may_share_memory(src.memory, dst.memory)
    return same and src.span[0] < dst.span[1] and dst.span[0] < src.span[1]


def _ordered(src: Tensor, dst: Tensor, table: NDArray | None) -> list[Bound] | None:
    """Runs of elements, in which no element reads what an earlier one of the same run has written; None if the order
    does not matter."""
    num_elements = math.prod(dst.shape)
    _check_ordered(num_elements)
    read, write = _byte_addrs(src), _byte_addrs(dst)
    overlap = _share_memory(src, dst) and _any_in(read, write)
    if not overlap and dst.is_distinct:
        return None
    cuts = _cuts(read, write) if overlap else []
    dtype = src.cover.dtype
    runs = zip([0, *cuts], [*cuts, num_elements], strict=True)
    return [partial(_step, src.memory, read[a:b], dst.memory, write[a:b], dtype=dtype, table=table) for a, b in runs]


def _any_in(some: NDArray, others: NDArray) -> bool:
    """Whether any element of the first is in the second, which is not empty. (np.isin would import numpy.ma.)"""
    ascending = np.sort(others, axis=None)
    return bool((ascending.take(np.searchsorted(ascending, some), mode="clip") == some).any())


def _check_ordered(num_elements: int) -> None:
    if num_elements > MAX_ORDERED:
        raise AddressError(
            f"{num_elements} elements are copied onto one another, of which the limit is {MAX_ORDERED}; give "
            "strides that keep them apart"
        )


def _byte_addrs(tensor: Tensor) -> NDArray[np.int64]:
    """Address of each element's bytes, shape (elements, itemsize)."""
    return tensor.element_addrs().reshape(-1, 1) + np.arange(tensor.cover.itemsize)


def _cuts(read: NDArray[np.int64], write: NDArray[np.int64]) -> list[int]:
    """The starts of runs. An element reads bytes that the last element before it wrote, so that one must be in an
    earlier run."""
    count = len(read)
    order = np.arange(count)[:, None]
    written = np.sort((write * count + order).ravel())
    wanted = read * count + order
    found = np.searchsorted(written, wanted) - 1
    entry = written[np.maximum(found, 0)]
    writer = np.where((found >= 0) & (entry // count == read), entry % count, -1).max(axis=1)
    cuts, start = [], 0
    needy = np.flatnonzero(writer >= 0)
    for element, needed in zip(needy.tolist(), writer[needy].tolist(), strict=True):
        if needed >= start:
            cuts.append(element)
            start = element
    return cuts


def _step(
    src: NDArray[np.uint8],
    read: NDArray[np.int64],
    dst: NDArray[np.uint8],
    write: NDArray[np.int64],
    *,
    dtype: np.dtype,
    table: NDArray | None,
) -> None:
    values = _looked_up(table, src[read].view(dtype))
    dst[write] = values.view(np.uint8).reshape(write.shape)

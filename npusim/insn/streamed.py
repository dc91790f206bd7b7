"""Executes as one the matrix products whose right matrix is loaded tile by tile, reading the tiles from their
source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound
from npusim.insn.operand import Role
from npusim.insn.operands import shape_of
from npusim.insn.tdma_copy import G2lTensorCopy
from npusim.insn.tiu_matmul import MatrixMultiplication
from npusim.isa.opcodes import TdmaFmt
from npusim.mem.gmem import physical_addr
from npusim.mem.lmem import lmem_tensor
from npusim.mem.tensor import Fmt, GlobalTensor, LocalTensor
from npusim.numerics.accumulate import FEW_ROWS
from npusim.numerics.streamed import dot_streamed
from npusim.state import State


class Step(NamedTuple):
    """A load of a tile and the product that reads it, with what runs each by itself."""

    load: G2lTensorCopy
    product: MatrixMultiplication
    calls: tuple[Bound, Bound]


def can_stream(product: MatrixMultiplication) -> bool:
    """Whether the product has few rows of bf16 and takes their columns in memory order."""
    regs = product.regs
    return bool(regs.opd_typ) and regs.res0_n <= FEW_ROWS and regs.opd0_c == 1


def tile_in_gmem(load: G2lTensorCopy, product: MatrixMultiplication) -> GlobalTensor | None:
    """The right matrix of `product`, (K, C, 1, W), where `load` takes it from; None where that is no one tensor.

    `load` is the last that wrote what `product` reads there."""
    (right,), (there,), (here,) = product.tensors("opd1"), load.places("dst", Role.WRITE), load.places("src")
    assert isinstance(there, LocalTensor) and isinstance(here, GlobalTensor)
    (n, channels, h, w), size, row_bytes = there.shape, here.itemsize, right.stride[0]
    is_plain = (
        right.addr == there.addr
        and there.fmt is Fmt.BF16
        and here.shape == there.shape
        and n == 1
        and right.shape[1] <= channels
        and there.addr // load.chip.lmem_bytes + channels <= load.chip.num_lanes
        and (h == 1 or (there.stride[2] == 2 * w and here.stride[2] == size * w))
        and right.shape[0] * row_bytes <= 2 * h * w
        and row_bytes % 2 == 0
    )
    if not is_plain:
        return None
    return GlobalTensor(
        here.base_reg, here.addr, right.shape, (row_bytes // 2 * size, here.stride[1], 0, size), here.fmt
    )


def bind_chain(state: State, steps: Sequence[Step], kept: Sequence[Bound]) -> Bound:
    """What runs `steps`, each product of which goes on from the one before, as one product.

    kept    loads whose tiles something reads afterwards: run, in order, in front of the store of the result

    Where a step may leave the normal numbers, all of them run one by one."""
    first, last = steps[0].product, steps[-1].product
    left, start = _left(state, [step.product for step in steps]), first.bind_start(state)
    store = last.bind_store(state)
    tiles, (rows, channels, _, width) = _tiles(state, steps), shape_of(last, "res0")

    def run() -> None:
        begun = None if start is None else start().reshape(rows, channels, width)
        sums = dot_streamed(left(), tiles, begun)
        if sums is None:
            for step in steps:
                for call in step.calls:
                    call()
            return
        for load in kept:
            load()
        store(sums[:, :, None])

    return run


def _left(state: State, products: Sequence[MatrixMultiplication]) -> Callable[[], NDArray[np.uint16]]:
    """The left matrices of all products side by side, shape (M, K)."""
    merged: list[LocalTensor] = []
    for product in products:
        (here,) = product.tensors("opd0")
        n, _, _, w = here.shape
        before = merged[-1] if merged else None
        if before and here.addr == before.addr + before.shape[3] * 2 and here.stride[0] == before.stride[0]:
            merged[-1] = before._replace(shape=(n, 1, 1, before.shape[3] + w))
        else:
            merged.append(here)
    views = [lmem_tensor(state, tensor, "opd0").load()[:, 0, 0] for tensor in merged]
    return (lambda: views[0]) if len(views) == 1 else lambda: np.concatenate(views, axis=1)


def _tiles(state: State, steps: Sequence[Step]) -> list[NDArray]:
    """Views of all tiles, (T, k, C, W): those of one shape that lie at even distances are one."""
    found: list[tuple[int, GlobalTensor, np.dtype, list[int]]] = []
    for load, product, _ in steps:
        tile = tile_in_gmem(load, product)
        assert tile is not None
        at = physical_addr(state, tile.base_reg, tile.addr, 1, "src")
        signed = load.regs.src_fmt == TdmaFmt.INT8 and load.regs.int8_sign
        dtype = np.dtype(np.int8) if signed else tile.fmt.dtype
        if found:
            _, other, kind, starts = found[-1]
            alike = tile.shape == other.shape and tile.stride == other.stride and dtype == kind
            if alike and (len(starts) == 1 or at - starts[-1] == starts[1] - starts[0]):
                starts.append(at)
                continue
        found.append((at, tile, dtype, [at]))
    views = []
    for at, tile, dtype, starts in found:
        step = starts[1] - starts[0] if len(starts) > 1 else 0
        k, c, _, w = tile.shape
        shape, strides = (len(starts), k, c, w), (step, *tile.stride[:2], tile.stride[3])
        views.append(np.ndarray(shape, dtype, state.gmem.bytes, at, strides))
    return views

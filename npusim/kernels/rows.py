"""Rows over lanes: activations in LMEM as (1, m, 1, d), row r on lane r % lanes. One row is contiguous on lane 0.

All kernels take and give this layout. Sums and maxima over a row stay on its lane, and elementwise work runs on all
lanes at once."""

from __future__ import annotations

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.tensors import Fmt, Tg, Tl, tg
from npusim.mem.lmem import Shape

BF16 = Fmt.BF16
ONE = 0x3F80
"""1.0 as a bf16 pattern."""


def alloc_rows(b: KernelBuilder, rows: int, columns: int) -> Tl:
    """Rows over lanes in LMEM."""
    return b.lmem_alloc_tensor((1, rows, 1, columns), BF16, way_out=f"take fewer than {rows} rows at a time")


def load_rows(b: KernelBuilder, src: Tg) -> Tl:
    """Rows over lanes, loaded from a GMEM tensor (1, rows, 1, columns) of any strides."""
    dst = alloc_rows(b, src.shape[1], src.shape[3])
    b.tdma_g2l_tensor_copy(src, dst)
    return dst


def load_constant(b: KernelBuilder, src: Tg, shape: Shape) -> Tl:
    """One row of GMEM (1, 1, 1, d) for every lane that `shape` (1, m, 1, d) uses, as an operand of that shape."""
    if src.shape[:3] != (1, 1, 1) or src.shape[3] != shape[3]:
        raise UsageError(f"a constant row has shape {src.shape}; for {shape} it is (1, 1, 1, {shape[3]})")
    lanes = min(shape[1], b.chip.num_lanes)
    near = b.lmem_alloc_tensor((1, lanes, 1, shape[3]), BF16)
    repeated = tg(src.addr, near.shape, BF16, (0, 0, 0, 2), base_reg=src.base_reg, label=src.label)
    b.tdma_g2l_tensor_copy(repeated, near)
    return every_lane(near, shape)


def every_lane(near: Tl, shape: Shape) -> Tl:
    """A tensor that holds the same (h, w) on each lane.

    It is read as if every channel of `shape` had its own."""
    _, _, h, w = near.shape
    steps = (0, 0, near.stride[2] if h > 1 else 0, near.stride[3] if w > 1 else 0)
    return Tl(near.addr, shape, steps, near.fmt)


def rows_of(b: KernelBuilder, tensor: Tl, first: int, count: int) -> Tl:
    """Rows [first, first + count) of rows over lanes."""
    turn, lane = divmod(tensor.addr // b.chip.lmem_bytes + first, b.chip.num_lanes)
    addr = tensor.addr % b.chip.lmem_bytes + turn * tensor.stride[1] + lane * b.chip.lmem_bytes
    return Tl(addr, (1, count, *tensor.shape[2:]), tensor.stride, tensor.fmt)


def columns_of(tensor: Tl, first: int, count: int) -> Tl:
    """Columns [first, first + count) of rows over lanes."""
    return Tl(tensor.addr + tensor.stride[3] * first, (*tensor.shape[:3], count), tensor.stride, tensor.fmt)


def row_dot(b: KernelBuilder, res: Tl, a: Tl, weight: Tl) -> None:
    """res (1, m, 1, 1) = the sum of a * weight over each row.

    Sums are float32, in order, toward zero, and rounded once. `weight` lies as allocated."""
    b.tiu_pt_depthwise_convolution(res, a, weight)


def row_sum(b: KernelBuilder, res: Tl, a: Tl) -> None:
    """res (1, m, 1, 1) = the sum of each row, as row_dot with ones."""
    b.tiu_average_pooling(res, a, (1, a.shape[3]), ONE)


def row_max(b: KernelBuilder, res: Tl, a: Tl) -> None:
    """res (1, m, 1, 1) = the largest element of each row."""
    b.tiu_max_pooling(res, a, (1, a.shape[3]))

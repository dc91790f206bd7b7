"""Products in int8 throughout (W8A8).

Activations are int8, sums int32, and each column has a quantised multiplier that gives its int8 results. A matrix
multiplication has one multiplier for all its columns; a 1x1 convolution has one for each channel. So columns are
channels here: column j lies on lane j % lanes, and activations are channels of the input, spread over the lanes in
the same way. The result equals Int8ActivationLinear of reference_model.quant bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import BF16, load_constant
from npusim.kernels.stream import WeightStream
from npusim.kernels.tensors import Fmt, Tg, Tl, tg
from npusim.kernels.weights import DEFAULT_BUFFER_BYTES
from npusim.mem.lmem import align_up

I8 = Fmt.I8
RECORD_BYTES = 5
"""Multiplier (int32) and right shift (one byte) of a column."""


@dataclass(frozen=True)
class ChannelTile:
    """Columns [first, first + turns * lanes).

    Every lane holds `turns` columns of k weights, then their records; both parts start at multiples of 16 bytes."""

    first: int
    turns: int
    offset: int
    elements: int
    record_offset: int
    """Bytes from the tile's start in a lane to its records."""

    @property
    def lane_elements(self) -> int:
        """From one lane's to the next lane's."""
        return self.elements


@dataclass(frozen=True)
class Int8Plan:
    """How a [k, n] matrix is cut. The bf16 rows to_int8 [k] and scale [n] follow the tiles."""

    lanes: int
    k: int
    n: int
    tile_turns: int
    fmt: Fmt = I8
    near_fmt: Fmt = I8

    @property
    def num_lanes_used(self) -> int:
        """Lanes that hold columns: all of them."""
        return self.lanes

    @property
    def num_channels(self) -> int:
        """Columns, with those that fill up the lanes."""
        return align_up(self.n, self.lanes)

    @cached_property
    def tiles(self) -> tuple[ChannelTile, ...]:
        """In the order in which they are read."""
        found, offset = [], 0
        turns_left = self.num_channels // self.lanes
        for turn in range(0, turns_left, self.tile_turns):
            turns = min(self.tile_turns, turns_left - turn)
            records = align_up(turns * self.k, 16)
            elements = records + align_up(turns * RECORD_BYTES, 16)
            found.append(ChannelTile(turn * self.lanes, turns, offset, elements, records))
            offset += elements * self.lanes
        return tuple(found)

    @property
    def to_int8_offset(self) -> int:
        """Byte at which to_int8 begins."""
        last = self.tiles[-1]
        return last.offset + last.elements * self.lanes

    @property
    def scale_offset(self) -> int:
        """Byte at which the scales begin, a multiple of 16."""
        return align_up(self.to_int8_offset + 2 * self.k, 16)

    @property
    def num_bytes(self) -> int:
        """Bytes of the packed matrix, a multiple of 16."""
        return align_up(self.scale_offset + 2 * self.n, 16)


def plan_int8(chip: Chip, k: int, n: int, buffer_bytes: int = DEFAULT_BUFFER_BYTES) -> Int8Plan:
    """The cut of a [k, n] matrix whose tiles fit `buffer_bytes` of a lane.

    Raises UsageError where not even one column fits."""
    turns = next(
        (t for t in range(min(buffer_bytes // k, -(-n // chip.num_lanes)), 0, -1) if _tile_bytes(k, t) <= buffer_bytes),
        0,
    )
    if not turns or k > 4095:
        need = _tile_bytes(k, 1)
        raise UsageError(
            f"a column of {k:,} int8 weights takes {need:,} bytes a lane (and 4,095 rows at most); buffer_bytes is "
            f"{buffer_bytes:,}"
        )
    return Int8Plan(chip.num_lanes, k, n, turns)


def _tile_bytes(k: int, turns: int) -> int:
    return align_up(turns * k, 16) + align_up(turns * RECORD_BYTES, 16)


def pack_int8(
    plan: Int8Plan,
    weight: NDArray[np.int8],
    *,
    multiplier: NDArray[np.int64],
    shift: NDArray[np.int64],
    to_int8: NDArray[np.uint16],
    scale: NDArray[np.uint16],
) -> bytes:
    """The matrix as the plan's tiles and rows.

    weight is int8 [k, n]; multiplier and (right) shift are [n]; to_int8 [k] and scale [n] are bf16 patterns."""
    if weight.shape != (plan.k, plan.n) or weight.dtype != np.int8:
        raise UsageError(
            f"weights are {weight.dtype} of shape {weight.shape}; the plan is for int8 of {(plan.k, plan.n)}"
        )
    pad = plan.num_channels - plan.n
    by_lane = np.pad(weight, ((0, 0), (0, pad))).T.reshape(-1, plan.lanes, plan.k).transpose(1, 0, 2)
    records = np.zeros((plan.num_channels, RECORD_BYTES), np.uint8)
    records[: plan.n, :4] = np.ascontiguousarray(multiplier.astype("<i4")).view(np.uint8).reshape(-1, 4)
    records[: plan.n, 4] = shift
    records_by_lane = records.reshape(-1, plan.lanes, RECORD_BYTES).transpose(1, 0, 2)
    parts = []
    for tile in plan.tiles:
        turns = slice(tile.first // plan.lanes, tile.first // plan.lanes + tile.turns)
        part = np.zeros((plan.lanes, tile.elements), np.uint8)
        part[:, : tile.turns * plan.k] = by_lane[:, turns].reshape(plan.lanes, -1).view(np.uint8)
        part[:, tile.record_offset :][:, : tile.turns * RECORD_BYTES] = records_by_lane[:, turns].reshape(
            plan.lanes, -1
        )
        parts.append(part.tobytes())
    packed = b"".join([*parts, to_int8.tobytes()]).ljust(plan.scale_offset, b"\0") + scale.tobytes()
    return packed.ljust(plan.num_bytes, b"\0")


def matmul_int8(b: KernelBuilder, stream: WeightStream, x: Tl, res: Tl, *, scratch: Tg | None = None) -> None:
    """res (1, m, 1, n) = x (1, m, 1, k) times the stream's next matrix, an Int8Plan; in bf16.

    The product is int8 inside, and then multiplied by the scales. Several rows go through `scratch`, 2 * m * max(k,
    n) bytes of GMEM (only its address matters)."""
    with b.lmem_scope():
        product, scale = _product(b, stream, x, res.shape[3], scratch)
        b.tiu_mul(res, product, scale)


def matmul_int8_add(b: KernelBuilder, stream: WeightStream, x: Tl, residual: Tl, *, scratch: Tg | None = None) -> None:
    """residual += what matmul_int8 gives, as one multiply-accumulate of the int8 results and the scales."""
    with b.lmem_scope():
        product, scale = _product(b, stream, x, residual.shape[3], scratch)
        b.tiu_mac(residual, product, scale)


def _product(b: KernelBuilder, stream: WeightStream, x: Tl, columns: int, scratch: Tg | None) -> tuple[Tl, Tl]:
    """The int8 results as bf16 rows over lanes, and the row of scales as an operand of their shape."""
    plan, addr = stream.next_weight(Int8Plan)
    rows = x.shape[1]
    if x.shape != (1, rows, 1, plan.k) or columns != plan.n:
        raise UsageError(f"x has shape {x.shape} and the result {columns} columns; this matrix is {plan.k} x {plan.n}")
    if rows > 1 and scratch is None:
        raise UsageError(f"a product of {rows} rows needs `scratch`, {2 * rows * max(plan.k, plan.n)} bytes of GMEM")
    product = b.lmem_alloc_tensor(
        (1, rows, 1, plan.n), BF16, way_out=f"take fewer than {rows} rows or {plan.n} columns at a time"
    )
    scale = load_constant(
        b, tg(addr + plan.scale_offset, (1, 1, 1, plan.n), BF16, base_reg=stream.base_reg), product.shape
    )
    with b.lmem_scope():
        result = b.lmem_alloc_tensor(
            (1, plan.num_channels, 1, rows), I8, way_out=f"multiply by fewer than {plan.n} columns"
        )
        with b.lmem_scope():
            to_int8 = tg(addr + plan.to_int8_offset, (1, 1, 1, plan.k), BF16, base_reg=stream.base_reg)
            channels = _to_channels(b, x, load_constant(b, to_int8, x.shape), scratch)
            for tile in plan.tiles:
                _convolve(b, stream, tile, channels, result)
                stream.done()
        _to_rows(b, result, product, scratch)
    return product, scale


def _convolve(b: KernelBuilder, stream: WeightStream, tile: ChannelTile, channels: Tl, result: Tl) -> None:
    """The int8 result channels of one tile, from the stream's next buffer."""
    lanes, k = b.chip.num_lanes, channels.shape[1]
    count = tile.turns * lanes
    weight = Tl(stream.tile_addr, (1, count, 1, k), (0, k, 0, 1), I8)
    record = Tl(stream.tile_addr + tile.record_offset, (1, count, 1, RECORD_BYTES), (0, RECORD_BYTES, 0, 1), Fmt.U8)
    ofmap = Tl(result.addr + tile.first // lanes * result.stride[1], (1, count, 1, result.shape[3]), result.stride, I8)
    b.tiu_convolution_1x1_qm(ofmap, channels, weight, record)


def _to_channels(b: KernelBuilder, x: Tl, to_int8: Tl, scratch: Tg | None) -> Tl:
    """int8(x * to_int8) as channels (1, k, 1, m): k over the lanes."""
    _, rows, _, k = x.shape
    channels = b.lmem_alloc_tensor((1, k, 1, rows), I8, way_out=f"take fewer than {rows} rows at a time")
    with b.lmem_scope():
        scaled = b.lmem_alloc_tensor(x.shape, BF16)
        b.tiu_mul(scaled, x, to_int8)
        if scratch is None:
            b.tdma_l2l_tensor_copy(scaled, channels)
            return channels
        b.tdma_l2g_tensor_copy(scaled, tg(scratch.addr, x.shape, I8, base_reg=scratch.base_reg))
    turned = (1, k, rows, 1)
    near = Tl(channels.addr, turned, (channels.stride[0], channels.stride[1], 1, 1), I8)
    b.tdma_g2l_tensor_copy(tg(scratch.addr, turned, I8, (0, 1, k, 1), base_reg=scratch.base_reg), near)
    return channels


def _to_rows(b: KernelBuilder, result: Tl, product: Tl, scratch: Tg | None) -> None:
    """int8 channels (1, n, 1, m) to bf16 rows (1, m, 1, n)."""
    _, rows, _, n = product.shape
    if scratch is None:
        b.tdma_l2l_tensor_copy(Tl(result.addr, (1, n, 1, 1), result.stride, I8), product)
        return
    turned = (1, n, rows, 1)
    near = Tl(result.addr, turned, (result.stride[0], result.stride[1], 1, 1), I8)
    b.tdma_l2g_tensor_copy(near, tg(scratch.addr, turned, I8, (0, 1, n, 1), base_reg=scratch.base_reg))
    b.tdma_g2l_tensor_copy(tg(scratch.addr, product.shape, I8, base_reg=scratch.base_reg), product)

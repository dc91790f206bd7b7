"""The first half of a gated MLP in one product: activation(x @ gate) * (x @ up), on all lanes at once.

Each lane holds some columns of the gate and the same columns of `up`, side by side. So the activation's table is
looked up where the product lies, before the row is gathered on one lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.matmul import deliver, left_blocks, load_scale, multiply_tile, next_matrix, next_product, scaled
from npusim.kernels.stream import WeightStream
from npusim.kernels.tables import InterpolatedTable, Interpolation, interpolate
from npusim.kernels.tensors import Fmt, Ml, MlShape, Tg, Tl, ml_at
from npusim.kernels.weights import DEFAULT_BUFFER_BYTES, WeightPlan, pack_weight, plan_weight
from npusim.mem.lmem import align_up

BF16 = Fmt.BF16


@dataclass(frozen=True)
class GatedPlan:
    """`width` columns of gate and as many of up, as one matrix of the stream, which `plan` cuts."""

    width: int
    plan: WeightPlan

    @property
    def half(self) -> int:
        """Columns of the gate on each lane."""
        return self.plan.lane_columns // 2

    def arrange(self, gate: NDArray, up: NDArray) -> NDArray:
        """Columns (or scales) of gate and up, on the last axis, in the matrix's order.

        Zeros fill lanes that are not full."""
        if gate.shape != up.shape or gate.shape[-1] != self.width:
            raise UsageError(f"gate has shape {gate.shape} and up {up.shape}; both have {self.width} columns")
        lanes = self.plan.num_lanes_used
        pad = [(0, 0)] * (gate.ndim - 1) + [(0, lanes * self.half - self.width)]
        sides = [np.pad(side, pad).reshape(*side.shape[:-1], lanes, self.half) for side in (gate, up)]
        return np.concatenate(sides, -1).reshape(*gate.shape[:-1], self.plan.n)


def plan_gated(chip: Chip, k: int, width: int, fmt: Fmt, buffer_bytes: int = DEFAULT_BUFFER_BYTES) -> GatedPlan:
    """The cut of a gate and an up matrix, [k, width] each."""
    half = align_up(-(-width // chip.num_lanes), 8)
    return GatedPlan(
        width, plan_weight(chip, k, -(-width // half) * 2 * half, fmt, buffer_bytes, lane_columns=2 * half)
    )


def pack_gated(
    gated: GatedPlan, gate: NDArray, up: NDArray, scales: tuple[NDArray[np.uint16], NDArray[np.uint16]] | None = None
) -> bytes:
    """Both matrices [k, width] packed as by pack_weight.

    With int8 weights, `scales` are the scales [width] of each."""
    return pack_weight(gated.plan, gated.arrange(gate, up), None if scales is None else gated.arrange(*scales))


def matmul_gated(
    b: KernelBuilder,
    stream: WeightStream,
    x: Tl | Tg,
    res: Tl | Tg,
    gated: GatedPlan,
    *,
    table: InterpolatedTable,
    scratch: Tg | None = None,
) -> None:
    """res = f(x @ gate) * (x @ up) for the stream's next matrix, where f(y) = y * table(y).

    `gated` planned the matrix. matmul says what res may be."""
    rows = x.shape[1]
    if res.shape != (1, rows, 1, gated.width):
        raise UsageError(f"res has shape {res.shape}; it is {(1, rows, 1, gated.width)}")
    with next_product(b, stream, x, (1, rows, 1, gated.plan.n)) as product:
        opened = b.lmem_alloc_matrix(
            MlShape(rows, product.shape.c, gated.half, gated.width), BF16, way_out="take fewer columns at a time"
        )
        near = opened.tl
        gate, up = (product.tl.view(near.shape, product.tl.stride, 2 * side * gated.half) for side in (0, 1))
        interpolate(b, table, near, gate)
        _open(b, opened, gate, up, res=res, scratch=scratch)


def matmul_gated_rows(
    b: KernelBuilder, stream: WeightStream, x: Tl, strips: Sequence[tuple[Tg, GatedPlan]], *, table: InterpolatedTable
) -> None:
    """matmul_gated for several rows and the stream's next matrices, each with its result (1, m, 1, width) in GMEM.

    Where LMEM has room, a strip's table is looked up while the next strip's weights arrive."""
    with b.lmem_scope():
        try:
            work = _Strips(b, stream, x, [gated for _, gated in strips], table)
        except UsageError:
            work = None
        if work is not None:
            for res, gated in strips:
                work.multiply(res, gated)
            work.finish()
            return
    for res, gated in strips:
        matmul_gated(b, stream, x, res, gated, table=table)


class _Strips:
    """Room for all that strips need, so that the end of one overlaps with the start of the next."""

    _TILES_BEFORE = 2
    """Of the next strip, whose products stand before the table is looked up: so many lie in the stream's buffers."""

    def __init__(
        self, b: KernelBuilder, stream: WeightStream, x: Tl, plans: Sequence[GatedPlan], table: InterpolatedTable
    ) -> None:
        self._b, self._stream, self._x = b, stream, x
        rows, lanes = x.shape[1], b.chip.num_lanes
        widest = max(plans, key=lambda gated: gated.half).plan
        columns = max(gated.plan.tile_columns for gated in plans)
        self._lefts: dict[tuple[tuple[int, int], ...], dict[int, Ml]] = {}
        self._product = b.lmem_alloc_tensor((rows, lanes, 1, widest.lane_columns), BF16)
        self._room = b.lmem_alloc_matrix(MlShape(rows, lanes, columns, lanes * columns), BF16, ps32=True)
        self._scales = [b.lmem_alloc_tensor((1, lanes, 1, widest.lane_columns), BF16) for _ in range(2)]
        self._opened = b.lmem_alloc_tensor((rows, lanes, 1, widest.lane_columns // 2), BF16)
        for plan in stream.coming(WeightPlan, len(plans)):
            if plan.pieces not in self._lefts:
                self._lefts[plan.pieces] = left_blocks(b, plan, x, "take fewer rows")
        self._activations = {
            shape: Interpolation(b, table, ml_at(b.chip, self._opened.addr, shape).tl)
            for shape in dict.fromkeys(map(self._opened_shape, plans))
        }
        self._waiting: Callable[[], None] | None = None
        self._turn = 0

    def multiply(self, res: Tg, gated: GatedPlan) -> None:
        """The products of the next strip, and the places of its gate in the table."""
        b, rows = self._b, self._x.shape[1]
        plan, addr = next_matrix(self._stream, self._x, (1, rows, 1, gated.plan.n))
        lanes, self._turn = plan.num_lanes_used, self._turn + 1
        scale = load_scale(b, self._stream, plan, addr, self._scales[self._turn % 2]) if plan.fmt is Fmt.I8 else None
        product = ml_at(b.chip, self._product.addr, MlShape(rows, lanes, plan.lane_columns, plan.n)).tl
        for number, tile in enumerate(plan.tiles):
            part = ml_at(b.chip, self._room.addr, MlShape(rows, lanes, tile.columns, lanes * tile.columns))
            multiply_tile(b, self._stream, plan, tile, part=part, left=self._lefts[plan.pieces][tile.k])
            whole = tile.k + tile.rows == plan.k
            if whole or number + 1 == self._TILES_BEFORE:
                self.finish()
            if whole:
                scaled(b, product.view(part.tl.shape, product.stride, 2 * tile.w), part.tl, tile, scale)
        opened = ml_at(b.chip, self._opened.addr, self._opened_shape(gated))
        gate, up = (product.view(opened.tl.shape, product.stride, 2 * side * gated.half) for side in (0, 1))
        activation = self._activations[opened.shape]
        activation.index(gate)

        def rest() -> None:
            activation.look_up()
            _open(b, opened, gate, up, res=res)

        self._waiting = rest

    def finish(self) -> None:
        """What is left of the strip before."""
        if self._waiting is not None:
            self._waiting()
            self._waiting = None

    def _opened_shape(self, gated: GatedPlan) -> MlShape:
        return MlShape(self._x.shape[1], gated.plan.num_lanes_used, gated.half, gated.width)


def _open(b: KernelBuilder, opened: Ml, gate: Tl, up: Tl, *, res: Tl | Tg, scratch: Tg | None = None) -> None:
    """res = opened, which holds what the gate's table gave, * gate * up."""
    near = opened.tl
    b.tiu_mul(near, gate, near)
    b.tiu_mul(near, near, up)
    deliver(b, opened, res, scratch)

"""The first half of a gated MLP in one product: activation(x @ gate) * (x @ up), on all lanes at once.

Each lane holds some columns of the gate and the same columns of `up`, side by side. So the activation's table is
looked up where the product lies, before the row is gathered on one lane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.matmul import deliver, next_product
from npusim.kernels.stream import WeightStream
from npusim.kernels.tables import InterpolatedTable, interpolate
from npusim.kernels.tensors import Fmt, MlShape, Tg, Tl
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
    x: Tl,
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
        b.tiu_mul(near, gate, near)
        b.tiu_mul(near, near, up)
        deliver(b, opened, res, scratch)

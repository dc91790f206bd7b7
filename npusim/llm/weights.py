"""The matrices and gains of a TwinModel as bytes of GMEM, in the order in which the programs read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.kernels.gated import GatedPlan, pack_gated, plan_gated
from npusim.kernels.tensors import Fmt
from npusim.kernels.weights import WeightPlan, pack_weight, plan_weight
from npusim.mem.lmem import align_up
from reference_model.config import ModelConfig
from reference_model.quant.arith import patterns
from reference_model.quant.linear import Bf16Linear, Int8Linear, Linear
from reference_model.quant.twin import TwinModel

ALIGNMENT = 64
"""Alignment of each matrix: that of a DRAM burst."""
HEAD_LANE_COLUMNS = 1024
"""The head is cut into strips of this many columns for each lane, one product each."""
GATE_LANE_COLUMNS = 64
"""The same for gate and up, since the activation works on one strip at once."""
MATRICES = ("qkv", "output", "gate_up", "down")


@dataclass(frozen=True)
class WeightStrip:
    """A strip of a matrix: its plan, and the offset of its packed bytes from the start of the weights."""

    plan: WeightPlan
    offset: int
    columns: slice
    """Its columns in the whole matrix; for gate and up, in each of the two."""
    gated: GatedPlan | None = None

    def packed(self, linear: Linear) -> bytes:
        """The strip's bytes, of a bf16 or int8 matrix, in the order of its plan. If it is gated, `linear` has gate and
        up side by side."""
        assert isinstance(linear, Bf16Linear | Int8Linear)
        sides = [self.columns]
        if self.gated:
            half = linear.matrix.values.num_columns // 2
            sides.append(slice(self.columns.start + half, self.columns.stop + half))
        values = [linear.matrix.values.columns(np.arange(side.start, side.stop)).T for side in sides]
        if isinstance(linear, Bf16Linear):
            weights = [patterns(side) for side in values]
            if self.gated:
                return pack_gated(self.gated, weights[0], weights[1])
            return pack_weight(self.plan, weights[0])
        quantised = [side.astype(np.int8) for side in values]
        scales = [np.ascontiguousarray(linear.scale[columns]) for columns in sides]
        if self.gated:
            return pack_gated(self.gated, quantised[0], quantised[1], (scales[0], scales[1]))
        return pack_weight(self.plan, quantised[0], scales[0])


@dataclass(frozen=True)
class WeightLayout:
    """Where all matrices and gains are. A matrix is one strip or several."""

    layers: tuple[dict[str, tuple[WeightStrip, ...]], ...]
    head: tuple[WeightStrip, ...]
    gains: tuple[dict[str, int], ...]
    """For each layer, the offsets of its norms' gains ("attention", "mlp")."""
    final_gain: int
    num_bytes: int
    matrix_bytes: int
    """Bytes of all matrices with their scales, which a step has to read."""

    def write(self, twin: TwinModel, out: NDArray[np.uint8]) -> None:
        """Packs the weights of `twin` into `out`, uint8 [num_bytes]."""
        for placed, gains, layer in zip(self.layers, self.gains, twin.layers, strict=True):
            for name in MATRICES:
                for strip in placed[name]:
                    _put(out, strip.offset, strip.packed(getattr(layer, name)))
            _put(out, gains["attention"], layer.attention_norm[0].tobytes())
            _put(out, gains["mlp"], layer.mlp_norm[0].tobytes())
        for strip in self.head:
            _put(out, strip.offset, strip.packed(twin.head_matrix))
        _put(out, self.final_gain, twin.final_norm[0].tobytes())


def lay_out_weights(chip: Chip, shapes: Shapes, fmt: Fmt, buffer_bytes: int) -> WeightLayout:
    """The layout for a model of these sizes: the gains and matrices of each layer, then the final gain and the head."""
    at = _Cursor()

    def strips(name: str) -> tuple[WeightStrip, ...]:
        k, cuts = shapes.cuts(chip, name)
        placed = []
        for columns in cuts:
            width = columns.stop - columns.start
            gated = plan_gated(chip, k, width, fmt, buffer_bytes) if name == "gate_up" else None
            plan = gated.plan if gated else plan_weight(chip, k, width, fmt, buffer_bytes)
            placed.append(WeightStrip(plan, at.take(plan.num_bytes), columns, gated))
        return tuple(placed)

    layers, gains = [], []
    for _ in range(shapes.num_layers):
        gains.append({"attention": at.take(2 * shapes.hidden), "mlp": at.take(2 * shapes.hidden)})
        layers.append({name: strips(name) for name in MATRICES})
    final_gain = at.take(2 * shapes.hidden)
    head = strips("head")
    placed = [strip for layer in layers for matrix in layer.values() for strip in matrix] + list(head)
    return WeightLayout(
        layers=tuple(layers),
        head=head,
        gains=tuple(gains),
        final_gain=final_gain,
        num_bytes=at.offset,
        matrix_bytes=sum(m.plan.num_bytes for m in placed),
    )


@dataclass(frozen=True)
class Shapes:
    """The sizes of a model's weights; matrices are (inputs, outputs)."""

    num_layers: int
    hidden: int
    matrices: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, c: ModelConfig) -> Shapes:
        """The sizes of a model of configuration `c`. Raises UsageError for a model that cannot be lowered."""
        if c.qk_norm or c.post_norms or any(c.sliding_layers):
            raise UsageError(
                "models with norms of queries and keys, or with sliding windows (Gemma 3), cannot be lowered: use a "
                "model of the Llama family"
            )
        q_dim, kv_dim = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
        matrices = {
            "qkv": (c.hidden_size, q_dim + 2 * kv_dim),
            "output": (q_dim, c.hidden_size),
            "gate_up": (c.hidden_size, c.intermediate_size),
            "down": (c.intermediate_size, c.hidden_size),
            "head": (c.hidden_size, c.vocab_size),
        }
        return cls(c.num_layers, c.hidden_size, matrices)

    def cuts(self, chip: Chip, name: str) -> tuple[int, list[slice]]:
        """(rows of the matrix called `name`, the columns of each of its strips)."""
        k, n = self.matrices[name]
        width = {"head": HEAD_LANE_COLUMNS * chip.num_lanes, "gate_up": GATE_LANE_COLUMNS * chip.num_lanes}.get(name, n)
        return k, [slice(start, min(start + width, n)) for start in range(0, n, width)]


class _Cursor:
    def __init__(self) -> None:
        self.offset = 0

    def take(self, num_bytes: int) -> int:
        start = self.offset
        self.offset = align_up(start + num_bytes, ALIGNMENT)
        return start


def _put(out: NDArray[np.uint8], at: int, data: bytes) -> None:
    out[at : at + len(data)] = np.frombuffer(data, np.uint8)

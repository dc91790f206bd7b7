"""The decode step that the vendor's compiler can compile, too: a LayerNorm decoder of one layer with a static cache,
lowered here.

Its programs are in golden/data/functional (step_*): x [128], 4 heads of 32 without rotation, 48 cached tokens and the
new one, SwiGLU of 256, logits of 320. `benchmarks/step.py` holds the predicted times of both against each other, its
test the results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.kernels.attention import AttentionShape, Softmax, attention
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.cache import CacheShape, store_rows
from npusim.kernels.gated import GatedPlan, matmul_gated, pack_gated, plan_gated
from npusim.kernels.layers import rms_norm
from npusim.kernels.matmul import matmul, matmul_add
from npusim.kernels.program import Program
from npusim.kernels.rows import BF16, alloc_rows, columns_of, load_rows, row_sum
from npusim.kernels.stream import WeightStream
from npusim.kernels.tables import InterpolatedTable, ScientificTable, load_tables
from npusim.kernels.tensors import Fmt, Tl, tg
from npusim.kernels.weights import WeightPlan, pack_weight, plan_weight
from npusim.mem.lmem import align_up
from reference_model.quant import ops, tables
from reference_model.quant.arith import F32, Patterns, pattern, patterns
from reference_model.quant.linear import quantise_rows

HIDDEN, HEADS, HEAD_DIM, CACHED, WIDTH, VOCAB, PAGE = 128, 4, 32, 48, 256, 320, 16
SLOTS = align_up(CACHED + 1, PAGE)
EPS = 1e-5
X, MASK, TABLES, GAIN, LOGITS, KEYS, SCRATCH, WEIGHTS = 0, 0x400, 0x1000, 0x3000, 0x4000, 0x8000, 0x20000, 0x40000
"""Places behind base register 0."""
PAGE_BYTES = 2 * HEAD_DIM * PAGE
HEAD_BYTES = 2 * SLOTS // PAGE * PAGE_BYTES
_FUNCTIONS = ("exp", "sigmoid", "reciprocal", "rsqrt")


@dataclass(frozen=True)
class StepWeights:
    """float32 [in, out]; queries are not scaled yet."""

    q: F32
    k: F32
    v: F32
    output: F32
    gate: F32
    up: F32
    down: F32
    head: F32


@dataclass(frozen=True)
class LoweredStep:
    program: Program
    memory: dict[int, bytes]
    """What lies in GMEM beside the inputs."""


def lower_step(chip: Chip, weights: StepWeights, fmt: Fmt) -> LoweredStep:
    """The step's program, with bf16 or int8 weights."""
    qkv = np.concatenate([weights.q * np.float32(HEAD_DIM**-0.5), weights.k, weights.v], 1)
    plain = [qkv, weights.output, weights.down, weights.head]
    plans: list[WeightPlan] = [plan_weight(chip, matrix.shape[0], matrix.shape[1], fmt) for matrix in plain]
    gated = plan_gated(chip, HIDDEN, WIDTH, fmt)
    packed = [_pack(plan, matrix) for plan, matrix in zip(plans, plain, strict=True)]
    packed.insert(2, _pack_gated(gated, weights.gate, weights.up))
    plans.insert(2, gated.plan)
    starts = WEIGHTS + np.cumsum([0, *(align_up(len(data), 64) for data in packed[:-1])])
    memory = dict(zip(starts.tolist(), packed, strict=True))
    for index, name in enumerate(_FUNCTIONS):
        memory[TABLES + 1024 * index] = _table_bytes(name)
    memory[GAIN] = ops.rms_norm_constants(np.ones(HIDDEN, np.float32), EPS)[0].tobytes()
    return LoweredStep(_emit(chip, list(zip(plans, starts.tolist(), strict=True)), gated), memory)


def inputs(x: F32, k_cache: F32, v_cache: F32, mask: F32) -> dict[int, bytes]:
    """GMEM of one step: x [128], caches [4, 48, 32], mask [49] that is added to scores; slots behind it are hidden."""
    hidden = np.full(SLOTS, ops.MASKED)
    hidden[: CACHED + 1] = patterns(np.maximum(mask, -32768))
    pages = np.zeros((HEADS, 2, SLOTS // PAGE, PAGE_BYTES // 2), np.uint16)
    whole = CACHED // PAGE
    pages[:, 0, :whole] = (
        patterns(k_cache).reshape(HEADS, whole, PAGE, HEAD_DIM).swapaxes(2, 3).reshape(HEADS, whole, -1)
    )
    pages[:, 1, :whole] = patterns(v_cache).reshape(HEADS, whole, -1)
    return {X: patterns(x).tobytes(), MASK: hidden.tobytes(), KEYS: pages.tobytes()}


def _emit(chip: Chip, weights: list[tuple[WeightPlan, int]], gated: GatedPlan) -> Program:
    b = KernelBuilder(chip)
    stream = WeightStream(b, weights)
    x = load_rows(b, tg(X, (1, 1, 1, HIDDEN), BF16))
    pairs = [load_tables(b, tg(TABLES + 1024 * index, (1, 1, 1, 512), BF16)) for index in range(len(_FUNCTIONS))]
    exp, sigmoid = (_interpolated(name, pair) for name, pair in zip(_FUNCTIONS[:2], pairs[:2], strict=True))
    reciprocal, rsqrt = (ScientificTable(*pair) for pair in pairs[2:])
    scratch = tg(SCRATCH, (1, 1, 1, HIDDEN), BF16)
    with b.lmem_scope():
        normed, qkv, mixed = (alloc_rows(b, 1, columns) for columns in (HIDDEN, 3 * HIDDEN, HIDDEN))
        layer_norm(b, normed, x, rsqrt)
        matmul(b, stream, normed, qkv)
        shape, slot = CacheShape(HEADS, 1, HEAD_DIM, HEAD_BYTES), KEYS + CACHED // PAGE * PAGE_BYTES
        places = tg(slot, (1, 1, 1, 1), BF16), tg(slot + HEAD_BYTES // 2, (1, 1, 1, 1), BF16)
        store_rows(
            b,
            shape,
            columns_of(qkv, HIDDEN, HIDDEN),
            columns_of(qkv, 2 * HIDDEN, HIDDEN),
            k_to=places[0],
            v_to=places[1],
        )
        pages = [
            [[(_page(side, head, s), None) for s in range(SLOTS // PAGE)] for head in range(HEADS)] for side in (0, 1)
        ]
        mask = tg(MASK, (1, 1, 1, SLOTS), BF16)
        sizes = AttentionShape(1, HEADS, HEADS, HEAD_DIM, SLOTS // PAGE)
        q, tables = columns_of(qkv, 0, HIDDEN), Softmax(exp, reciprocal)
        attention(b, mixed, q, *pages, mask=mask, shape=sizes, tables=tables, scratch=scratch)
        matmul_add(b, stream, mixed, x)
    with b.lmem_scope():
        normed, hidden = alloc_rows(b, 1, HIDDEN), alloc_rows(b, 1, WIDTH)
        layer_norm(b, normed, x, rsqrt)
        matmul_gated(b, stream, normed, hidden, gated, table=sigmoid)
        matmul_add(b, stream, hidden, x)
    matmul(b, stream, x, tg(LOGITS, (1, 1, 1, VOCAB), BF16))
    return b.build()


def layer_norm(b: KernelBuilder, res: Tl, x: Tl, rsqrt: ScientificTable) -> None:
    """res = (x - mean) / sqrt(variance + eps) over one row, without gain: the mean taken off, then RMSNorm."""
    with b.lmem_scope():
        mean, centred = alloc_rows(b, 1, 1), alloc_rows(b, 1, HIDDEN)
        row_sum(b, mean, x)
        b.tiu_mul(mean, mean, int(pattern(1 / HIDDEN)))
        b.tiu_sub(centred, x, mean.broadcast(x.shape))
        rms_norm(b, res, centred, tg(GAIN, (1, 1, 1, HIDDEN), BF16), eps=int(pattern(EPS * HIDDEN)), rsqrt=rsqrt)


def _page(side: int, head: int, slot: int) -> int:
    return KEYS + head * HEAD_BYTES + side * HEAD_BYTES // 2 + slot * PAGE_BYTES


def _pack(plan: WeightPlan, matrix: F32) -> bytes:
    if plan.fmt is BF16:
        return pack_weight(plan, patterns(matrix))
    quantised, scale = quantise_rows(matrix.T)
    return pack_weight(plan, np.ascontiguousarray(quantised.T), scale)


def _pack_gated(gated: GatedPlan, gate: F32, up: F32) -> bytes:
    if gated.plan.fmt is BF16:
        return pack_gated(gated, patterns(gate), patterns(up))
    (gate8, gate_scale), (up8, up_scale) = quantise_rows(gate.T), quantise_rows(up.T)
    sides: list[NDArray[np.int8]] = [np.ascontiguousarray(side.T) for side in (gate8, up8)]
    return pack_gated(gated, sides[0], sides[1], (gate_scale, up_scale))


def _table_bytes(name: str) -> bytes:
    table = getattr(tables, f"{name}_table")()
    halves: tuple[Patterns, Patterns] = (
        (table.base, table.slope) if isinstance(table, tables.Interpolated) else (table.by_exponent, table.by_fraction)
    )
    return b"".join(half.tobytes() for half in halves)


def _interpolated(name: str, pair: tuple[Tl, Tl]) -> InterpolatedTable:
    table = getattr(tables, f"{name}_table")()
    return InterpolatedTable(*pair, int(table.low), int(table.high), int(pattern(table.scale)))

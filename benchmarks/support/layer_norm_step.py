"""A decode step that the vendor's compiler can also compile: a LayerNorm decoder of one layer with a static cache,
lowered here.

Its programs are in golden/data/functional (step_*): x [128], 4 heads of 32 without rotation, 48 cached tokens and the
new one, SwiGLU of 256, logits of 320. `benchmarks/step.py` holds the predicted times of both against each other, its
test the results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.chip import Chip
from npusim.kernels.attention import AttentionShape, Softmax, attention
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.cache import PAGE_SIZE, CacheShape, store_rows
from npusim.kernels.gated import matmul_gated, plan_gated
from npusim.kernels.layers import rms_norm
from npusim.kernels.matmul import matmul, matmul_add
from npusim.kernels.program import Program
from npusim.kernels.rows import BF16, alloc_rows, columns_of, load_rows, row_sum
from npusim.kernels.stream import WeightStream
from npusim.kernels.tables import TABLE_BYTES, ScientificTable
from npusim.kernels.tensors import Fmt, Tl, tg
from npusim.kernels.weights import plan_weight
from npusim.llm.pages import SIDES, PageLayout, num_blocks
from npusim.llm.tables import load_interpolated, load_scientific, table_bytes
from npusim.llm.weights import ALIGNMENT, WeightStrip
from npusim.mem.lmem import align_up
from reference_model.config import ModelConfig
from reference_model.quant import ops
from reference_model.quant.arith import F32, pattern, patterns
from reference_model.quant.linear import Bf16Linear, Int8Linear

HIDDEN, HEADS, HEAD_DIM, CACHED, WIDTH, VOCAB = 128, 4, 32, 48, 256, 320
EPS = 1e-5
CONFIG = ModelConfig(VOCAB, HIDDEN, WIDTH, 1, HEADS, HEADS, HEAD_DIM, context_length=CACHED + 1, norm_eps=EPS)
X, MASK, TABLES, GAIN, LOGITS, KEYS, WEIGHTS = 0, 0x400, 0x1000, 0x3000, 0x4000, 0x8000, 0x40000
"""Places behind base register 0."""
NUM_PAGES = num_blocks(CACHED + 1)
SLOTS = NUM_PAGES * PAGE_SIZE
PAGES = PageLayout.of(CONFIG, NUM_PAGES, KEYS)
FUNCTIONS = ("exp", "sigmoid", "reciprocal", "rsqrt")
LINEARS: dict[Fmt, type[Bf16Linear | Int8Linear]] = {Fmt.BF16: Bf16Linear, Fmt.I8: Int8Linear}


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
    gate_up = np.concatenate([weights.gate, weights.up], 1)
    gated = plan_gated(chip, HIDDEN, WIDTH, fmt)
    strips, memory, addr = [], {}, WEIGHTS
    for matrix in (qkv, weights.output, gate_up, weights.down, weights.head):
        inner, outer = matrix.shape
        plan = gated.plan if matrix is gate_up else plan_weight(chip, inner, outer, fmt)
        columns = slice(0, WIDTH if matrix is gate_up else outer)
        strips.append(WeightStrip(plan, addr, columns, gated if matrix is gate_up else None))
        memory[addr] = strips[-1].packed(LINEARS[fmt].of(matrix.T))
        addr = align_up(addr + len(memory[addr]), ALIGNMENT)
    memory |= {_table(function): table_bytes(function) for function in FUNCTIONS}
    memory[GAIN] = ops.rms_norm_constants(np.ones(HIDDEN, np.float32), EPS)[0].tobytes()
    return LoweredStep(_emit(chip, strips), memory)


def inputs(x: F32, k_cache: F32, v_cache: F32, mask: F32) -> dict[int, bytes]:
    """GMEM of one step: x [128], caches [4, 48, 32], mask [49] that is added to scores; slots behind it are hidden."""
    hidden = np.full(SLOTS, ops.MASKED)
    hidden[: CACHED + 1] = patterns(np.maximum(mask, -32768))
    pages = np.zeros((HEADS, 2, NUM_PAGES, HEAD_DIM * PAGE_SIZE), np.uint16)
    whole = CACHED // PAGE_SIZE
    pages[:, 0, :whole] = (
        patterns(k_cache).reshape(HEADS, whole, PAGE_SIZE, HEAD_DIM).swapaxes(2, 3).reshape(HEADS, whole, -1)
    )
    pages[:, 1, :whole] = patterns(v_cache).reshape(HEADS, whole, -1)
    return {X: patterns(x).tobytes(), MASK: hidden.tobytes(), KEYS: pages.tobytes()}


def _emit(chip: Chip, strips: list[WeightStrip]) -> Program:
    b = KernelBuilder(chip)
    stream = WeightStream(b, [(strip.plan, strip.offset) for strip in strips])
    x = load_rows(b, tg(X, (1, 1, 1, HIDDEN), BF16))
    exp, sigmoid = (load_interpolated(b, function, _table(function)) for function in ("exp", "sigmoid"))
    reciprocal, rsqrt = (load_scientific(b, _table(function)) for function in ("reciprocal", "rsqrt"))
    gated = strips[2].gated
    assert gated
    with b.lmem_scope():
        normed, qkv, mixed = (alloc_rows(b, 1, columns) for columns in (HIDDEN, 3 * HIDDEN, HIDDEN))
        layer_norm(b, normed, x, rsqrt)
        matmul(b, stream, normed, qkv)
        shape = CacheShape(HEADS, 1, HEAD_DIM, PAGES.head_stride)
        k_to, v_to = (tg(PAGES.token_addr(side, *divmod(CACHED, PAGE_SIZE)), (1, 1, 1, 1), BF16) for side in SIDES)
        store_rows(
            b,
            shape,
            columns_of(qkv, HIDDEN, HIDDEN),
            columns_of(qkv, 2 * HIDDEN, HIDDEN),
            k_to=k_to,
            v_to=v_to,
        )
        pages = [
            [[(PAGES.addr(0, head, side, page), None) for page in range(NUM_PAGES)] for head in range(HEADS)]
            for side in SIDES
        ]
        mask = tg(MASK, (1, 1, 1, SLOTS), BF16)
        sizes = AttentionShape(num_heads=HEADS, num_kv_heads=HEADS, head_dim=HEAD_DIM, num_pages=NUM_PAGES)
        q, tables = columns_of(qkv, 0, HIDDEN), Softmax(exp, reciprocal)
        attention(b, mixed, q, *pages, mask=mask, shape=sizes, tables=tables)
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


def _table(function: str) -> int:
    return TABLES + TABLE_BYTES * FUNCTIONS.index(function)

"""How near the DRAM's speed a decoder layer comes, and what waits that follow from the operands are worth.

One token through layers of SmolLM2-135M's sizes, 16 pages for each KV head (8 on cv180x), predicted by npusim.timing.
The bound is the time to read the weights alone at the bandwidth that large blocks reach. The peer is the same program
with cvikernel's serial waits, in which every command waits for all before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from benchmarks.claim import Say
from npusim.board import Board, board_named
from npusim.kernels import Fmt, KernelBuilder, Program, Tl, tg
from npusim.kernels.attention import AttentionShape, Softmax, attention
from npusim.kernels.cache import CacheShape, store_rows
from npusim.kernels.gated import GatedPlan, matmul_gated, plan_gated
from npusim.kernels.layers import rms_norm, rope
from npusim.kernels.matmul import matmul, matmul_add
from npusim.kernels.rows import alloc_rows, columns_of, load_rows
from npusim.kernels.stream import StreamPlan, WeightStream
from npusim.kernels.tables import InterpolatedTable, ScientificTable, load_tables
from npusim.kernels.weights import plan_weight
from npusim.timing import Timeline, constants, time_workload, workload_of_bytes

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 576, 1536, 9, 3, 64
LAYERS, STRIPS = 3, 4
IO, CACHE, WEIGHTS = 0x1000000, 0x1800000, 0x2000000
BF16, ONE = Fmt.BF16, (1, 1, 1, 1)


@dataclass(frozen=True)
class Step:
    """A program and the bytes of weights that it reads."""

    program: Program
    weight_bytes: int


def build(chip: str, fmt: Fmt, pages: int, sync: str) -> Step:
    b = KernelBuilder(chip, sync=sync)
    gated = plan_gated(b.chip, HIDDEN, INTERMEDIATE // STRIPS, fmt)
    q_dim, kv_dim = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    sizes = ((HIDDEN, q_dim + 2 * kv_dim), (q_dim, HIDDEN), (INTERMEDIATE, HIDDEN))
    qkv, output, down = (plan_weight(b.chip, k, n, fmt) for k, n in sizes)
    placed: list[tuple[StreamPlan, int]] = []
    addr = WEIGHTS
    for plan in [qkv, output, *[gated.plan] * STRIPS, down] * LAYERS:
        placed.append((plan, addr))
        addr += plan.num_bytes
    stream = WeightStream(b, placed)
    pairs = [load_tables(b, tg(IO + 1024 * i, ONE, BF16)) for i in range(4)]
    exp, gate = (InterpolatedTable(*pair, 0xC180, 0x417E, 0x4100) for pair in pairs[:2])
    tables = exp, gate, *(ScientificTable(*pair) for pair in pairs[2:])
    x = load_rows(b, tg(IO + 0x10000, (1, 1, 1, HIDDEN), BF16))
    for layer in range(LAYERS):
        _attend(b, stream, x, layer, pages, tables)  # type: ignore[arg-type]
        _mlp(b, stream, x, gated, tables)  # type: ignore[arg-type]
    b.tdma_l2g_tensor_copy(x, tg(IO + 0x10000, x.shape, BF16))
    return Step(b.build(), addr - WEIGHTS)


Tables = tuple[InterpolatedTable, InterpolatedTable, ScientificTable, ScientificTable]


def _norm(b: KernelBuilder, x: Tl, tables: Tables) -> Tl:
    normed = alloc_rows(b, 1, HIDDEN)
    rms_norm(b, normed, x, tg(IO + 0x20000, (1, 1, 1, HIDDEN), BF16), eps=0x3C00, rsqrt=tables[3])
    return normed


def _attend(b: KernelBuilder, stream: WeightStream, x: Tl, layer: int, pages: int, tables: Tables) -> None:
    q_dim, kv_dim = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    with b.lmem_scope():
        q, out = alloc_rows(b, 1, q_dim), alloc_rows(b, 1, q_dim)
        cos, sin = (load_rows(b, tg(IO + 0x30000 + 128 * i, (1, 1, 1, HEAD_DIM), BF16)) for i in range(2))
        with b.lmem_scope():
            qkv, k = alloc_rows(b, 1, q_dim + 2 * kv_dim), alloc_rows(b, 1, kv_dim)
            matmul(b, stream, _norm(b, x, tables), qkv)
            rope(b, q, columns_of(qkv, 0, q_dim), cos, sin, head_dim=HEAD_DIM)
            rope(b, k, columns_of(qkv, q_dim, kv_dim), cos, sin, head_dim=HEAD_DIM)
            cache = CacheShape(KV_HEADS, HEADS // KV_HEADS, HEAD_DIM, 2048 * pages)
            store_rows(
                b,
                cache,
                k,
                columns_of(qkv, q_dim + kv_dim, kv_dim),
                k_to=tg(CACHE, ONE, BF16),
                v_to=tg(CACHE + 0x80000, ONE, BF16),
            )
        places = [[[(CACHE + 0x80000 * side + 2048 * (head * pages + p), f"{side}.{layer}.{head}.{p}") for p in
        range(pages)]
                   for head in range(KV_HEADS)] for side in (0, 1)]  # fmt: skip
        shape = AttentionShape(1, HEADS, KV_HEADS, HEAD_DIM, pages)
        mask = tg(IO + 0x40000, (1, 1, 1, shape.num_slots), BF16, label="mask")
        softmax, scratch = Softmax(tables[0], tables[2]), tg(IO + 0x50000, ONE, BF16)
        attention(b, out, q, places[0], places[1], mask=mask, shape=shape, tables=softmax, scratch=scratch)
        matmul_add(b, stream, out, x)


def _mlp(b: KernelBuilder, stream: WeightStream, x: Tl, gated: GatedPlan, tables: Tables) -> None:
    with b.lmem_scope():
        hidden = alloc_rows(b, 1, INTERMEDIATE)
        with b.lmem_scope():
            normed = _norm(b, x, tables)
            for strip in range(STRIPS):
                matmul_gated(
                    b, stream, normed, columns_of(hidden, strip * gated.width, gated.width), gated, table=tables[1]
                )
        matmul_add(b, stream, hidden, x)


@dataclass(frozen=True)
class Row:
    """A board and a weight format: the time with waits from the operands, and with cvikernel's serial waits."""

    board: Board
    fmt: Fmt
    step: Step
    hazards: Timeline
    serial: Timeline

    @property
    def share(self) -> float:
        """The time to read the weights alone, over the predicted time."""
        efficiency = next(value for name, value, *_ in constants() if name == "dram_efficiency")
        return self.step.weight_bytes / (self.board.peak_gbps * 1e6 * efficiency) / self.hazards.ms

    @property
    def saved(self) -> float:
        """How many times as long the program takes with serial waits."""
        return self.serial.ms / self.hazards.ms

    def __str__(self) -> str:
        return (
            f"{self.board.name:9} {self.fmt.value:8} {self.hazards.ms / LAYERS:10.3f} {self.share:11.1%} "
            f"{self.hazards.tdma_busy:10.1%} {self.saved:12.2f}x {self.step.program.lmem_bytes:7,}"
        )


@cache
def rows() -> list[Row]:
    found = []
    for name, pages in (("duo256m", 16), ("duo", 8)):
        board = board_named(name)
        for fmt in (Fmt.I8, Fmt.BF16):
            steps = {sync: build(board.chip.name, fmt, pages, sync) for sync in ("hazards", "vendor")}
            ours, serial = (
                time_workload(workload_of_bytes(board.chip, step.program.cmdbuf), board) for step in steps.values()
            )
            found.append(Row(board, fmt, steps["hazards"], ours, serial))
    return found


def show(say: Say) -> list[Row]:
    say("board     weights  ms a layer  DRAM bound  TDMA busy  serial waits    LMEM")
    for row in rows():
        say(str(row))
    return rows()


def dram_bound(say: Say) -> float:
    """Percent of the predicted time that reading the weights takes: the least of both boards and both formats."""
    return 100 * min(row.share for row in show(say))


def waits(say: Say) -> float:
    """How many times as long a layer takes with serial waits: the least of both boards and both formats."""
    return min(row.saved for row in show(say))

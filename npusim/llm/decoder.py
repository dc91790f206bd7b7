"""A decoder layer as commands: what stands before the choice of pages, and what follows it.

A program works on rows, which are new tokens: one of each of several sequences, which decodes them together, or a chunk
of one sequence's prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from npusim.kernels.attention import AttentionShape, PageAddress, Softmax, attention
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.cache import box_page, page_scores, store_rows, update_boxes
from npusim.kernels.gated import matmul_gated, matmul_gated_rows
from npusim.kernels.layers import rms_norm, rope
from npusim.kernels.matmul import matmul, matmul_add
from npusim.kernels.rows import BF16, alloc_rows, columns_of, load_rows, rows_of
from npusim.kernels.stream import WeightStream
from npusim.kernels.tables import InterpolatedTable, ScientificTable
from npusim.kernels.tensors import Tg, Tl, tg
from npusim.llm.layout import ModelLayout
from npusim.llm.pages import SIDES, page_label
from npusim.llm.tables import load_interpolated, load_scientific
from npusim.llm.weights import WeightStrip


@dataclass(frozen=True)
class Batch:
    """The rows of a program: `tokens` new tokens of each of `sequences`, which attend to `slots` pages a KV head."""

    sequences: int
    tokens: int
    slots: int

    @property
    def rows(self) -> int:
        return self.sequences * self.tokens


@dataclass(frozen=True)
class LmemPlan:
    """What a program spends LMEM on beside its rows.

    parts       steps in which a tile of weights is loaded; a buffer holds one
    buffers     of the stream of weights: with one, loads and products take turns
    resident    whether tables of functions stay; else each layer loads them where it needs them
    """

    parts: int = 1
    buffers: int = 2
    resident: bool = True


@dataclass
class Context:
    """What all layers of one program share: the builder, the stream of weights, and what stays in LMEM.

    turns       cos and sin of the rows' positions
    softmax, gate   tables that stay in LMEM; None: each layer loads them
    """

    layout: ModelLayout
    b: KernelBuilder
    stream: WeightStream
    batch: Batch
    x: Tl
    rsqrt: ScientificTable
    turns: list[Tl]
    softmax: Softmax | None
    gate: InterpolatedTable | None

    @property
    def rows(self) -> int:
        return self.batch.rows

    def products(self, columns: int) -> Tg:
        """Rows in GMEM that a product may go through."""
        return self.layout.products(self.rows, columns)

    def activations(self, columns: int) -> Tl | Tg:
        """Room for rows that a product reads: in LMEM for one row, else in GMEM."""
        return alloc_rows(self.b, 1, columns) if self.rows == 1 else self.layout.activations(self.rows, columns)

    def gain(self, layer: int, name: str) -> Tg:
        """The gain of the norm before a layer's "attention" or "mlp" (`name`)."""
        layout = self.layout
        addr = layout.memory["weights"].addr + layout.weights.gains[layer][name]
        return tg(addr, (1, 1, 1, layout.config.hidden_size), BF16)

    def rms_norm(self, res: Tl, gain: Tg) -> None:
        """res = the residual stream, normalised."""
        rms_norm(self.b, res, self.x, gain, eps=self.layout.norm_eps, rsqrt=self.rsqrt)


def start(
    layout: ModelLayout,
    matrices: list[WeightStrip],
    batch: Batch,
    plan: LmemPlan | None = None,
    *,
    begins: bool = True,
    attends: bool = True,
    sync: str = "hazards",
) -> Context:
    """Starts a program that will multiply by `matrices` in that order, and loads the residual stream from the io
    region.

    begins, attends     whether some layer's part before the choice of pages, and some layer's part behind it, are in
                        the program
    sync            what a command waits for, as KernelBuilder takes it
    """
    plan = plan or LmemPlan()
    b = KernelBuilder(layout.setup.board.chip, sync=sync)
    weights = layout.memory["weights"].addr
    plans = [(replace(m.plan, parts=plan.parts), weights + m.offset) for m in matrices]
    stream = WeightStream(b, plans, num_buffers=plan.buffers)
    c, addresses, rows = layout.config, layout.addresses, batch.rows
    step = (0, addresses.rope_bytes, addresses.rope_bytes, 2)
    halves = [Tg(addresses.turns + at, (1, rows, 1, c.head_dim), BF16, step) for at in (0, 2 * c.head_dim)]
    return Context(
        layout,
        b,
        stream,
        batch,
        x=load_rows(b, tg(addresses.x, (1, rows, 1, c.hidden_size), BF16)),
        rsqrt=load_scientific(b, layout.table("rsqrt")),
        turns=[load_rows(b, half) for half in halves] if begins else [],
        softmax=softmax_tables(b, layout) if attends and plan.resident else None,
        gate=gate_table(b, layout) if attends and plan.resident else None,
    )


def whole_layer(ctx: Context, layer: int) -> None:
    """Emits a whole layer, whose pages were chosen before the program started."""
    ctx.b.set_layer_id(layer)
    with ctx.b.lmem_scope():
        q = queries(ctx)
        before_choice(ctx, layer, q)
        attend(ctx, layer, q)
    mlp(ctx, layer)


def queries(ctx: Context) -> Tl:
    """Room for the queries of the rows."""
    c = ctx.layout.config
    return alloc_rows(ctx.b, ctx.rows, c.num_heads * c.head_dim)


def before_choice(ctx: Context, layer: int, q: Tl | None) -> None:
    """Norm, queries, keys and values, rope; keys and values go into their pages; boxes and scores of pages.

    `q` gets the queries if wanted."""
    b, layout = ctx.b, ctx.layout
    c = layout.config
    q_dim, kv_dim = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    with b.lmem_scope():
        qkv = alloc_rows(b, ctx.rows, q_dim + 2 * kv_dim)
        with b.lmem_scope():
            normed = alloc_rows(b, ctx.rows, c.hidden_size)
            ctx.rms_norm(normed, ctx.gain(layer, "attention"))
            matmul(b, ctx.stream, normed, qkv, scratch=ctx.products(q_dim + 2 * kv_dim))
        k = alloc_rows(b, ctx.rows, kv_dim)
        cos, sin = ctx.turns
        if q is not None:
            rope(b, q, columns_of(qkv, 0, q_dim), cos, sin, head_dim=c.head_dim)
        rope(b, k, columns_of(qkv, q_dim, kv_dim), cos, sin, head_dim=c.head_dim)
        _store(ctx, layer, k, columns_of(qkv, q_dim + kv_dim, kv_dim))
        if layout.setup.prunes:
            _box(ctx, layer, q, k)


def _store(ctx: Context, layer: int, k: Tl, v: Tl) -> None:
    """Keys and values of every sequence into its page."""
    layout, tokens = ctx.layout, ctx.batch.tokens
    for row in range(ctx.batch.sequences):
        k_to, v_to = (_new(ctx, layer, side, row) for side in SIDES)
        mine = [rows_of(ctx.b, tensor, row * tokens, tokens) for tensor in (k, v)]
        store_rows(ctx.b, layout.cache_shape, *mine, k_to=k_to, v_to=v_to)


def _new(ctx: Context, layer: int, side: int, row: int) -> Tg:
    """Where the first new key or value of the `row`-th sequence goes."""
    return tg(layer * ctx.layout.pages.layer_stride, (1, 1, 1, 1), BF16, label=f"{'kv'[side]}_new/{row}")


def _box(ctx: Context, layer: int, q: Tl | None, k: Tl) -> None:
    """Boxes of the new keys; where each sequence has one, the scores of its pages before."""
    b, layout = ctx.b, ctx.layout
    shape = layout.cache_shape
    boxes = [layout.boxes(layer, row) for row in range(ctx.batch.sequences)]
    if ctx.batch.tokens > 1 or q is None:
        for row, of_row in enumerate(boxes):
            box_page(b, shape, of_row, _new(ctx, layer, 0, row), f"box/{row}", count=ctx.batch.tokens)
        return
    page_scores(b, shape, boxes, q, [layout.scores(layer, row) for row in range(len(boxes))])
    update_boxes(b, shape, boxes[0], k, [f"box/{row}" for row in range(len(boxes))])


def attend(ctx: Context, layer: int, q: Tl) -> None:
    """Emits attention over the chosen pages and its projection, which is added to the residual stream."""
    b, c = ctx.b, ctx.layout.config
    with b.lmem_scope():
        mixed = ctx.activations(c.num_heads * c.head_dim)
        with b.lmem_scope():
            _attention(ctx, layer, q, mixed)
        matmul_add(b, ctx.stream, mixed, ctx.x, scratch=ctx.products(c.hidden_size))


def mlp(ctx: Context, layer: int) -> None:
    """Emits the gated MLP, which is added to the residual stream."""
    b, layout = ctx.b, ctx.layout
    c = layout.config
    with b.lmem_scope():
        hidden = ctx.activations(c.intermediate_size)
        with b.lmem_scope():
            normed = alloc_rows(b, ctx.rows, c.hidden_size)
            ctx.rms_norm(normed, ctx.gain(layer, "mlp"))
            gate = ctx.gate or gate_table(b, layout)
            strips = layout.weights.layers[layer]["gate_up"]
            parts = [(_columns(hidden, s.columns.start, s.gated.width), s.gated) for s in strips if s.gated]
            if ctx.rows > 1:
                far = [(part, gated) for part, gated in parts if isinstance(part, Tg)]
                matmul_gated_rows(b, ctx.stream, normed, far, table=gate)
            else:
                for part, gated in parts:
                    matmul_gated(b, ctx.stream, normed, part, gated, table=gate)
        matmul_add(b, ctx.stream, hidden, ctx.x, scratch=ctx.products(c.hidden_size))


def _columns(rows: Tl | Tg, first: int, count: int) -> Tl | Tg:
    """Some columns of rows over lanes, or of rows in GMEM."""
    if isinstance(rows, Tl):
        return columns_of(rows, first, count)
    return replace(rows, addr=rows.addr + 2 * first, shape=(*rows.shape[:3], count))


def head(ctx: Context) -> None:
    """Emits the final norm and the logits, strip by strip."""
    b, layout = ctx.b, ctx.layout
    c = layout.config
    row_bytes = 2 * c.vocab_size
    with b.lmem_scope():
        normed = alloc_rows(b, ctx.rows, c.hidden_size)
        gain = tg(layout.memory["weights"].addr + layout.weights.final_gain, (1, 1, 1, c.hidden_size), BF16)
        ctx.rms_norm(normed, gain)
        for strip in layout.weights.head:
            addr = layout.addresses.logits + 2 * strip.columns.start
            extents = (1, ctx.rows, 1, strip.plan.n)
            matmul(b, ctx.stream, normed, Tg(addr, extents, BF16, (0, row_bytes, row_bytes, 2)))


def _attention(ctx: Context, layer: int, q: Tl, out: Tl | Tg) -> None:
    layout, batch = ctx.layout, ctx.batch
    c = layout.config
    shape = AttentionShape(
        num_sequences=batch.sequences,
        num_tokens=batch.tokens,
        num_heads=c.num_heads,
        num_kv_heads=c.num_kv_heads,
        head_dim=c.head_dim,
        num_pages=batch.slots,
    )
    keys, values = (
        [
            [_page(ctx, (row, layer, head, side, slot)) for slot in range(batch.slots)]
            for row in range(batch.sequences)
            for head in range(c.num_kv_heads)
        ]
        for side in SIDES
    )
    step = layout.addresses.mask_bytes
    mask = Tg(layout.addresses.mask, (1, ctx.rows, 1, shape.num_slots), BF16, (step * ctx.rows, step, step, 2))
    tables = ctx.softmax or softmax_tables(ctx.b, layout)
    attention(ctx.b, out, q, keys, values, mask=mask, shape=shape, tables=tables)


def _page(ctx: Context, place: tuple[int, int, int, int, int]) -> PageAddress:
    """Where the page of (row, layer, head, side, slot) lies: where its label is moved, or the CPU copied it."""
    staging = ctx.layout.staging
    if staging and ctx.batch.tokens == 1:
        return staging.addr(*place[1:]), None
    return 0, page_label(*place)


def softmax_tables(b: KernelBuilder, layout: ModelLayout) -> Softmax:
    """Loads the tables of softmax into LMEM."""
    return Softmax(load_interpolated(b, "exp", layout.table("exp")), load_scientific(b, layout.table("reciprocal")))


def gate_table(b: KernelBuilder, layout: ModelLayout) -> InterpolatedTable:
    """Loads the table of the MLP's gate into LMEM: a sigmoid or GELU's gate, according to the model's activation."""
    function = "sigmoid" if layout.config.activation == "silu" else "gelu_gate"
    return load_interpolated(b, function, layout.table(function))

"""A decoder layer as commands, in two parts: before and after pages are chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

from npusim.kernels.attention import AttentionShape, PageAddress, Softmax, attention
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.cache import box_page, page_scores, store_rows, update_boxes
from npusim.kernels.gated import matmul_gated
from npusim.kernels.layers import rms_norm, rope
from npusim.kernels.matmul import matmul, matmul_add
from npusim.kernels.rows import BF16, alloc_rows, columns_of, load_rows
from npusim.kernels.stream import WeightStream
from npusim.kernels.tables import InterpolatedTable, ScientificTable
from npusim.kernels.tensors import Tg, Tl, tg
from npusim.kernels.weights import WeightPlan
from npusim.llm.layout import ModelLayout, mask_row_bytes
from npusim.llm.pages import SIDES, page_label
from npusim.llm.tables import load_interpolated, load_scientific
from npusim.llm.weights import WeightStrip


@dataclass
class Context:
    """What all layers of one program share: the builder, the stream of weights, and what stays in LMEM.

    rows        number of new tokens
    num_slots   number of pages that each KV head attends to
    x           residual stream of the new tokens, bf16
    turns       cos and sin of the new tokens' positions
    softmax, gate   tables that stay in LMEM. None: each layer loads them when it needs them, since many rows need the
                    room
    """

    layout: ModelLayout
    b: KernelBuilder
    stream: WeightStream
    rows: int
    num_slots: int
    x: Tl
    rsqrt: ScientificTable
    turns: list[Tl]
    softmax: Softmax | None
    gate: InterpolatedTable | None

    def scratch(self, columns: int) -> Tg:
        """Rows of `columns` numbers in GMEM that a product may use as scratch."""
        return tg(self.layout.memory["scratch"].addr, (1, self.rows, 1, columns), BF16)

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
    rows: int,
    num_slots: int,
    *,
    num_buffers: int = 2,
    begins: bool = True,
    attends: bool = True,
    sync: str = "hazards",
) -> Context:
    """Starts a program that will multiply by `matrices` in that order, and loads the residual stream from the io
    region.

    num_buffers     tiles of weights in LMEM; with one, loads and products take turns
    begins          whether the program has a layer's part before the choice of pages
    attends         whether the program has a layer's part after the choice of pages
    sync            KernelBuilder's `sync`
    """
    b = KernelBuilder(layout.setup.board.chip, sync=sync)
    weights = layout.memory["weights"].addr
    plans: list[tuple[WeightPlan, int]] = [(m.plan, weights + m.offset) for m in matrices]
    stream = WeightStream(b, plans, num_buffers=num_buffers)
    c, addresses = layout.config, layout.addresses
    row = (0, addresses.rope_bytes, addresses.rope_bytes, 2)
    return Context(
        layout,
        b,
        stream,
        rows,
        num_slots,
        x=load_rows(b, tg(addresses.x, (1, rows, 1, c.hidden_size), BF16)),
        rsqrt=load_scientific(b, layout.table("rsqrt")),
        turns=[load_rows(b, Tg(at, (1, rows, 1, c.head_dim), BF16, row, label="rope")) for at in (0, 2 * c.head_dim)]
        if begins
        else [],
        softmax=softmax_tables(b, layout) if attends and rows == 1 else None,
        gate=gate_table(b, layout) if attends and rows == 1 else None,
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
    """LMEM for the queries of the new tokens."""
    c = ctx.layout.config
    return alloc_rows(ctx.b, ctx.rows, c.num_heads * c.head_dim)


def before_choice(ctx: Context, layer: int, q: Tl | None) -> None:
    """Emits a layer's part before the choice of pages: norm, queries, keys and values, rope, storing keys and values
    into their page, and the scores of pages. The queries go into `q`, unless it is None."""
    b, layout = ctx.b, ctx.layout
    c, shape = layout.config, layout.cache_shape
    q_dim, kv_dim = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    with b.lmem_scope():
        qkv = alloc_rows(b, ctx.rows, q_dim + 2 * kv_dim)
        with b.lmem_scope():
            normed = alloc_rows(b, ctx.rows, c.hidden_size)
            ctx.rms_norm(normed, ctx.gain(layer, "attention"))
            matmul(b, ctx.stream, normed, qkv, scratch=ctx.scratch(q_dim + 2 * kv_dim))
        k = alloc_rows(b, ctx.rows, kv_dim)
        cos, sin = ctx.turns
        if q is not None:
            rope(b, q, columns_of(qkv, 0, q_dim), cos, sin, head_dim=c.head_dim)
        rope(b, k, columns_of(qkv, q_dim, kv_dim), cos, sin, head_dim=c.head_dim)
        v = columns_of(qkv, q_dim + kv_dim, kv_dim)
        here = (1, 1, 1, 1)
        k_to = tg(layer * layout.pages.layer_stride, here, BF16, label="k_new")
        store_rows(
            b,
            shape,
            k,
            v,
            k_to=k_to,
            v_to=tg(layer * layout.pages.layer_stride, here, BF16, label="v_new"),
        )
        if not layout.setup.prunes:
            return
        if ctx.rows == 1 and q is not None:
            boxes = replace(layout.boxes(layer), addr=layout.addresses.boxes + layout.boxes(layer).addr)
            page_scores(b, shape, boxes, q, layout.addresses.scores + layer * layout.addresses.score_bytes)
            update_boxes(b, shape, layout.boxes(layer), k, "box")
        else:
            box_page(b, shape, layout.boxes(layer), k_to, "box", count=ctx.rows)


def attend(ctx: Context, layer: int, q: Tl) -> None:
    """Emits attention over the chosen pages and its projection, which is added to the residual stream."""
    b, c = ctx.b, ctx.layout.config
    with b.lmem_scope():
        mixed = alloc_rows(b, ctx.rows, c.num_heads * c.head_dim)
        with b.lmem_scope():
            _attention(ctx, layer, q, mixed)
        matmul_add(b, ctx.stream, mixed, ctx.x, scratch=ctx.scratch(c.hidden_size))


def mlp(ctx: Context, layer: int) -> None:
    """Emits the gated MLP, which is added to the residual stream."""
    b, layout = ctx.b, ctx.layout
    c = layout.config
    with b.lmem_scope():
        hidden = alloc_rows(b, ctx.rows, c.intermediate_size)
        with b.lmem_scope():
            normed = alloc_rows(b, ctx.rows, c.hidden_size)
            ctx.rms_norm(normed, ctx.gain(layer, "mlp"))
            gate = ctx.gate or gate_table(b, layout)
            for strip in layout.weights.layers[layer]["gate_up"]:
                assert strip.gated
                width = strip.gated.width
                part = columns_of(hidden, strip.columns.start, width)
                matmul_gated(b, ctx.stream, normed, part, strip.gated, table=gate, scratch=ctx.scratch(width))
        matmul_add(b, ctx.stream, hidden, ctx.x, scratch=ctx.scratch(c.hidden_size))


def head(ctx: Context) -> None:
    """Emits the final norm and the logits, strip by strip."""
    b, layout = ctx.b, ctx.layout
    c = layout.config
    with b.lmem_scope():
        normed = alloc_rows(b, 1, c.hidden_size)
        gain = tg(layout.memory["weights"].addr + layout.weights.final_gain, (1, 1, 1, c.hidden_size), BF16)
        ctx.rms_norm(normed, gain)
        for strip in layout.weights.head:
            addr = layout.addresses.logits + 2 * strip.columns.start
            matmul(b, ctx.stream, normed, tg(addr, (1, 1, 1, strip.plan.n), BF16))


def _attention(ctx: Context, layer: int, q: Tl, out: Tl) -> None:
    layout = ctx.layout
    c = layout.config
    shape = AttentionShape(ctx.rows, c.num_heads, c.num_kv_heads, c.head_dim, ctx.num_slots)
    keys, values = (
        [[_page(ctx, layer, head, side, s) for s in range(ctx.num_slots)] for head in range(c.num_kv_heads)]
        for side in SIDES
    )
    step = mask_row_bytes(layout.setup)
    mask = Tg(0, (1, ctx.rows, 1, shape.num_slots), BF16, (step * ctx.rows, step, step, 2), label="mask")
    scratch = tg(layout.memory["scratch"].addr, (1, 1, 1, shape.scratch_bytes // 2), BF16)
    tables = ctx.softmax or softmax_tables(ctx.b, layout)
    attention(ctx.b, out, q, keys, values, mask=mask, shape=shape, tables=tables, scratch=scratch)


def _page(ctx: Context, layer: int, kv_head: int, side: int, slot: int) -> PageAddress:
    """Address of the page in a slot: a label that the driver moves, or in a decode step the place that the CPU copies
    it to."""
    staging = ctx.layout.staging
    if staging and ctx.rows == 1:
        return staging.addr(layer, kv_head, side, slot), None
    return 0, page_label(layer, kv_head, side, slot)


def softmax_tables(b: KernelBuilder, layout: ModelLayout) -> Softmax:
    """Loads the tables of softmax into LMEM."""
    return Softmax(load_interpolated(b, "exp", layout.table("exp")), load_scientific(b, layout.table("reciprocal")))


def gate_table(b: KernelBuilder, layout: ModelLayout) -> InterpolatedTable:
    """Loads the table of the MLP's gate into LMEM: a sigmoid or GELU's gate, according to the model's activation."""
    function = "sigmoid" if layout.config.activation == "silu" else "gelu_gate"
    return load_interpolated(b, function, layout.table(function))

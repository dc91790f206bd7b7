"""Attention over gathered pages. Each KV head, with its group of query heads, attends to the pages that its descriptors
name.

A K page is [head_dim][page_size] in GMEM and becomes one piece of the right-hand matrix K^T. A V page is
[page_size][head_dim] and becomes page_size rows of V. Each page is one transfer, whose address can be patched. Pages
are gathered in tiles as large as the free LMEM allows.

Masked scores go to a scratch in GMEM. From there they come back as rows over lanes for the softmax, and again as
left-hand pieces for the product with V, whose sums run on from tile to tile (ps32). However it is cut, the result
equals ops.attention of reference_model.quant bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.cache import PAGE_SIZE
from npusim.kernels.gather import HeadPages, PageAddress, PageGather, PageShape, PageTile
from npusim.kernels.rows import BF16, load_rows
from npusim.kernels.softmax import Softmax, softmax_bytes, softmax_rows
from npusim.kernels.tensors import Ml, MlShape, Tg, Tl, mg, ml_at, ml_default_shape, tg
from npusim.mem.lmem import Shape, align_up

__all__ = ["AttentionShape", "PageAddress", "Softmax", "attention"]


@dataclass(frozen=True)
class AttentionShape:
    """`num_tokens` new tokens, grouped query heads, and `num_pages` pages for each KV head."""

    num_tokens: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_pages: int
    page_size: int = PAGE_SIZE

    @property
    def group(self) -> int:
        """Query heads of one KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def num_slots(self) -> int:
        """Slots that a query sees: all of its pages."""
        return self.num_pages * self.page_size

    @property
    def rows_a_head(self) -> int:
        """Rows of one KV head's scores: token by token, and within a token query head by query head."""
        return self.num_tokens * self.group

    @property
    def heads_at_once(self) -> int:
        """KV heads in one softmax.

        All of them for one token; one for several tokens, which keeps the rows few."""
        return self.num_kv_heads if self.num_tokens == 1 else 1

    @property
    def scratch_bytes(self) -> int:
        """GMEM bytes that the kernel itself needs: scores, products with V, and the result of several tokens."""
        rows = self.heads_at_once * self.rows_a_head
        return 2 * rows * (self.num_slots + self.head_dim) + 2 * self.num_tokens * self.num_heads * self.head_dim


def attention(
    b: KernelBuilder,
    res: Tl,
    q: Tl,
    k_pages: Sequence[Sequence[PageAddress]],
    v_pages: Sequence[Sequence[PageAddress]],
    *,
    mask: Tg,
    shape: AttentionShape,
    tables: Softmax,
    scratch: Tg,
    base_reg: int = 0,
) -> None:
    """res (1, t, 1, heads * head_dim) = attention of q, of the same shape and scaled, over the pages of each KV head.

    mask      (1, t, 1, slots) in GMEM, the same for all heads: 0, or the number that hides a slot
    scratch   GMEM of shape.scratch_bytes (its address counts)
    """
    _check(shape, q, res, mask)
    for name, pages in (("k_pages", k_pages), ("v_pages", v_pages)):
        found = [len(row) for row in pages]
        if found != [shape.num_pages] * shape.num_kv_heads:
            raise UsageError(
                f"{name} names {found} pages; it takes {shape.num_pages} for each of {shape.num_kv_heads} KV heads"
            )
    work = _Attention(
        b=b,
        shape=shape,
        k_pages=k_pages,
        v_pages=v_pages,
        mask=mask,
        tables=tables,
        scratch=scratch,
        base_reg=base_reg,
    )
    work.run(q, res)


def _check(shape: AttentionShape, q: Tl, res: Tl, mask: Tg) -> None:
    """Raises UsageError where the tensors do not fit `shape`, or `shape` does not fit the TIU."""
    wanted = (1, shape.num_tokens, 1, shape.num_heads * shape.head_dim)
    if q.shape != wanted or res.shape != wanted or shape.num_heads % shape.num_kv_heads:
        raise UsageError(
            f"q has shape {q.shape} and res {res.shape}; for {shape} both are {wanted}, heads a multiple of KV heads"
        )
    if mask.shape != (1, shape.num_tokens, 1, shape.num_slots):
        raise UsageError(f"mask has shape {mask.shape}; it is {(1, shape.num_tokens, 1, shape.num_slots)}")
    if shape.num_slots > 4095:
        raise UsageError(
            f"{shape.num_pages} pages are {shape.num_slots} slots; the TIU takes 4095 in a row: use a smaller budget"
        )


@dataclass
class _Attention:
    b: KernelBuilder
    shape: AttentionShape
    k_pages: Sequence[Sequence[PageAddress]]
    v_pages: Sequence[Sequence[PageAddress]]
    mask: Tg
    tables: Softmax
    scratch: Tg
    base_reg: int

    def __post_init__(self) -> None:
        """Cuts a head's rows into blocks of whole tokens.

        Each block lies on a lane of its own, as a left-hand matrix."""
        shape, lanes = self.shape, self.b.chip.num_lanes
        tokens = next(
            t for t in range(1, shape.num_tokens + 1) if shape.num_tokens % t == 0 and shape.num_tokens // t <= lanes
        )
        self.block_tokens, self.num_blocks = tokens, shape.num_tokens // tokens
        self.block_rows = tokens * shape.group

    def run(self, q: Tl, res: Tl) -> None:
        b, shape = self.b, self.shape
        rows = shape.heads_at_once * shape.rows_a_head
        with b.lmem_scope():
            factor = b.lmem_alloc_tensor((1, rows, 1, 1), BF16)
            page = PageShape(shape.head_dim, shape.page_size, shape.num_pages)
            groups = [
                range(first, first + shape.heads_at_once) for first in range(0, shape.num_kv_heads, shape.heads_at_once)
            ]
            sides = [
                HeadPages(pages[h], bool(are_values))
                for g in groups
                for are_values, pages in enumerate((self.k_pages, self.v_pages))
                for h in g
            ]
            gather = PageGather(b, page, sides, self.base_reg, self._beside)
            for heads in groups:
                for turn, head in enumerate(heads):
                    self._score(gather, q, head, turn)
                softmax_rows(b, self._far(self._scores(0), (1, rows, 1, shape.num_slots)), factor, self.tables)
                for turn, _ in enumerate(heads):
                    self._weigh(gather, turn)
                self._deliver(factor, res, heads[0])
            if shape.num_tokens > 1:
                b.tdma_g2l_tensor_copy(self._far(self._result, res.shape), res)

    def _beside(self, pages: int) -> int:
        """LMEM bytes of a lane that are used beside a tile of `pages` pages.

        They hold the scores, or the softmax, or the product with V, whichever is largest."""
        shape, chip = self.shape, self.b.chip
        piece = align_up(2 * shape.page_size, chip.eu_num) * -(-pages // chip.num_lanes)
        queries = self.block_rows * align_up(2 * shape.head_dim, 16)
        scores = queries + (shape.num_tokens + 2 * self.block_rows) * piece
        out = ml_at(chip, 0, ml_default_shape(chip, self.block_rows, shape.head_dim))
        products = self.num_blocks * 2 * self.block_rows * out.n_stride + self.block_rows * 2 * pages * shape.page_size
        return max(scores, products, softmax_bytes(chip, shape.heads_at_once * shape.rows_a_head, shape.num_slots))

    def _score(self, gather: PageGather, q: Tl, head: int, turn: int) -> None:
        """Masked scores of one KV head's queries, tile by tile, to the scratch."""
        b = self.b
        with b.lmem_scope():
            lefts = self._queries(q, head)
            for tile in gather.tiles():
                with b.lmem_scope():
                    mask = self._mask(tile)
                    for block, left in enumerate(lefts):
                        self._score_block(tile, left, mask, block, turn)

    def _score_block(self, tile: PageTile, left: Ml, mask: Tl, block: int, turn: int) -> None:
        b, shape = self.b, self.shape
        slots = tile.count * shape.page_size
        with b.lmem_scope():
            scores = b.lmem_alloc_matrix(MlShape(self.block_rows, tile.count, shape.page_size, slots), BF16)
            b.tiu_matrix_multiplication(scores, left, tile.matrix)
            masked = self._masked(scores, mask, block)
            row = turn * shape.rows_a_head + block * self.block_rows
            to = self._scores(row) + 2 * tile.first * shape.page_size
            b.tdma_l2g_matrix_copy(
                masked, mg(to, self.block_rows, slots, BF16, 2 * shape.num_slots, base_reg=self.base_reg)
            )

    def _masked(self, scores: Ml, mask: Tl, block: int) -> Ml:
        """Scores plus mask. Each token's mask serves its whole group of rows."""
        b, tokens, group = self.b, self.block_tokens, self.shape.group
        of_block = Tl(mask.addr + block * tokens * mask.stride[0], (tokens, *mask.shape[1:]), mask.stride, BF16)
        if tokens == 1:
            b.tiu_add(scores.tl, scores.tl, of_block.broadcast(scores.tl.shape))
            return scores
        masked = b.lmem_alloc_matrix(scores.shape, BF16)
        n, c, h, w = scores.tl.stride
        for member in range(group):
            res, rows = (Tl(m.addr + member * n, of_block.shape, (n * group, c, h, w), BF16) for m in (masked, scores))
            b.tiu_add(res, rows, of_block)
        return masked

    def _mask(self, tile: PageTile) -> Tl:
        """The tile's columns of every token's mask, (tokens, pages, 1, page_size), laid out as the scores are."""
        b, size = self.b, self.shape.page_size
        near = b.lmem_alloc_tensor((self.shape.num_tokens, tile.count, 1, size), BF16)
        strides = (self.mask.stride[1], 2 * size, 2 * size, 2)
        start = self.mask.addr + 2 * tile.first * size
        b.tdma_g2l_tensor_copy(
            tg(start, near.shape, BF16, strides, base_reg=self.mask.base_reg, label=self.mask.label), near
        )
        return near

    def _queries(self, q: Tl, head: int) -> list[Ml]:
        """The queries of one KV head, as one left-hand matrix for each block."""
        shape, width = self.shape, self.shape.head_dim
        start = q.addr + 2 * head * shape.group * width
        if shape.num_tokens == 1 and width % 8 == 0:
            return [ml_at(self.b.chip, start, MlShape(shape.group, 1, width, width))]
        lefts, near = self._lefts(width)
        self.b.tdma_l2l_tensor_copy(
            Tl(start, (1, shape.num_tokens, shape.group, width), (q.stride[0], q.stride[1], 2 * width, 2), BF16), near
        )
        return lefts

    def _lefts(self, columns: int) -> tuple[list[Ml], Tl]:
        """Room for a head's rows of `columns` as left-hand matrices.

        Also all of it as one tensor (1, blocks, block_rows, columns)."""
        b = self.b
        one = MlShape(self.block_rows, 1, columns, columns)
        addr = b.lmem_alloc_matrix(one, BF16, way_out="take fewer tokens at a time").addr
        lefts = [ml_at(b.chip, addr + block * b.chip.lmem_bytes, one) for block in range(self.num_blocks)]
        step = lefts[0].n_stride
        return lefts, Tl(
            addr, (1, self.num_blocks, self.block_rows, columns), (0, step * self.block_rows, step, 2), BF16
        )

    def _weigh(self, gather: PageGather, turn: int) -> None:
        """exp(scores) @ V of one KV head, to the scratch."""
        b, shape = self.b, self.shape
        with b.lmem_scope():
            columns = ml_default_shape(b.chip, self.block_rows, shape.head_dim)
            outs = [b.lmem_alloc_matrix(columns, BF16, ps32=True) for _ in range(self.num_blocks)]
            for tile in gather.tiles():
                with b.lmem_scope():
                    slots = tile.count * shape.page_size
                    lefts, near = self._lefts(slots)
                    start = self._scores(turn * shape.rows_a_head) + 2 * tile.first * shape.page_size
                    step = 2 * shape.num_slots
                    b.tdma_g2l_tensor_copy(
                        tg(start, near.shape, BF16, (0, step * self.block_rows, step, 2), base_reg=self.base_reg), near
                    )
                    mode = (1 if tile.first else 0) | (2 if tile.first + tile.count < shape.num_pages else 0)
                    for left, out in zip(lefts, outs, strict=True):
                        b.tiu_matrix_multiplication(out, left, tile.matrix, ps32_mode=mode)
            for block, out in enumerate(outs):
                row = turn * shape.rows_a_head + block * self.block_rows
                b.tdma_l2g_matrix_copy(
                    out, mg(self._products(row), self.block_rows, shape.head_dim, BF16, base_reg=self.base_reg)
                )

    def _deliver(self, factor: Tl, res: Tl, head: int) -> None:
        """Products times each row's factor; rows (token, query head) become columns of their token."""
        b, shape, width = self.b, self.shape, self.shape.head_dim
        with b.lmem_scope():
            out = load_rows(b, self._far(self._products(0), (1, factor.shape[1], 1, width)))
            b.tiu_mul(out, out, factor.broadcast(out.shape))
            if shape.num_tokens == 1:
                b.tdma_l2l_tensor_copy(out, Tl(res.addr, (1, 1, shape.num_heads, width), (0, 0, 2 * width, 2), BF16))
                return
            extents = (1, shape.num_tokens, shape.group, width)
            strides = (0, 2 * shape.num_heads * width, 2 * width, 2)
            to = self._result + 2 * head * shape.group * width
            b.tdma_l2g_tensor_copy(out, tg(to, extents, BF16, strides, base_reg=self.base_reg))

    def _scores(self, row: int) -> int:
        """GMEM address of a row of scores. The rows of products and the result follow the scores."""
        return self.scratch.addr + 2 * row * self.shape.num_slots

    def _products(self, row: int) -> int:
        return self._scores(self.shape.heads_at_once * self.shape.rows_a_head) + 2 * row * self.shape.head_dim

    @property
    def _result(self) -> int:
        return self._products(self.shape.heads_at_once * self.shape.rows_a_head)

    def _far(self, addr: int, shape: Shape) -> Tg:
        return tg(addr, shape, BF16, base_reg=self.base_reg)

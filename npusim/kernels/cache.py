"""The paged cache as the chip keeps it.

The kernels here store new keys and values in pages, keep a box (maxima and minima) around the keys of each page, and
score pages by these boxes.

A key page of one head lies dim-major, [head_dim][page_size], a value page token-major, [page_size][head_dim]; heads
are head_bytes apart. The boxes of one head are the rows of a matrix with a column for each block: [2 *
head_dim][blocks], maxima before minima. Rows of queries, keys and values are (1, m, 1, heads * head_dim) in LMEM,
one token a channel, as products leave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import BF16, rows_of
from npusim.kernels.tensors import Mg, Ml, MlShape, Tg, Tl, ml_at, ml_default_shape

PAGE_SIZE = 16
"""Tokens of a page."""
NEG_ONE = 0xBF80
_SCORE_COLUMNS = 256
"""Boxes of at most so many blocks are in LMEM at once; fewer where less is free."""


@dataclass(frozen=True)
class CacheShape:
    """The shape of one layer's cache.

    `group` is the query heads of a KV head, `head_bytes` the distance from one head's pages to the next head's."""

    num_kv_heads: int
    group: int
    head_dim: int
    head_bytes: int


@dataclass(frozen=True)
class Boxes:
    """One layer's boxes of one sequence: bf16 [num_kv_heads][2 * head_dim][num_blocks] in GMEM at `addr`, which counts
    from the label's address where there is one."""

    addr: int
    num_blocks: int
    label: str | None = None

    def column(self, shape: CacheShape, label: str | None) -> Tg:
        """The column of one block in all heads, (2 * heads, 1, head_dim, 1); `label` moves it."""
        step = 2 * self.num_blocks
        extents = (2 * shape.num_kv_heads, 1, shape.head_dim, 1)
        return Tg(self.addr, extents, BF16, (shape.head_dim * step, step, step, 2), label=label)


def store_rows(b: KernelBuilder, shape: CacheShape, k: Tl, v: Tl, *, k_to: Tg, v_to: Tg) -> None:
    """Stores the keys and values of m tokens in consecutive slots of one page.

    `k_to` and `v_to` say where the first token of head 0 goes."""
    heads, m, dim = shape.num_kv_heads, k.shape[1], shape.head_dim
    by_dim, rows = (heads, m, dim, 1), (heads, m, 1, dim)
    k_strides, v_strides = (shape.head_bytes, 2, 2 * PAGE_SIZE, 2), (shape.head_bytes, 2 * dim, 2 * dim, 2)
    b.tdma_l2g_tensor_copy(
        Tl(k.addr, by_dim, (2 * dim, k.stride[1], 2, 2), BF16),
        Tg(k_to.addr, by_dim, BF16, k_strides, base_reg=k_to.base_reg, label=k_to.label),
    )
    b.tdma_l2g_tensor_copy(
        Tl(v.addr, rows, (2 * dim, v.stride[1], 2 * dim, 2), BF16),
        Tg(v_to.addr, rows, BF16, v_strides, base_reg=v_to.base_reg, label=v_to.label),
    )


def update_boxes(b: KernelBuilder, shape: CacheShape, boxes: Boxes, k: Tl, labels: Sequence[str]) -> None:
    """Widens the box of each sequence's last page by one more key.

    k are rows over lanes, (1, rows, 1, heads * head_dim); `labels` name the block's column for each row."""
    heads, dim, count = shape.num_kv_heads, shape.head_dim, k.shape[1]
    rows = (1, count, heads, dim)

    def side(tensor: Tl, smallest: int) -> Tl:
        return Tl(tensor.addr + 2 * dim * smallest, rows, (tensor.stride[0], tensor.stride[1], 4 * dim, 2), BF16)

    def of_row(tensor: Tl, row: int) -> Tl:
        return Tl(rows_of(b, tensor, row, 1).addr, (2 * heads, 1, dim, 1), (2 * dim, 2 * dim, 2, 2), BF16)

    with b.lmem_scope():
        old, new = (b.lmem_alloc_tensor((1, count, 2 * heads, dim), BF16) for _ in range(2))
        for row, label in enumerate(labels):
            b.tdma_g2l_tensor_copy(boxes.column(shape, label), of_row(old, row))
        keys = Tl(k.addr, rows, (k.stride[0], k.stride[1], 2 * dim, 2), BF16)
        b.tiu_max(side(new, 0), side(old, 0), keys)
        b.tiu_min(side(new, 1), side(old, 1), keys)
        for row, label in enumerate(labels):
            b.tdma_l2g_tensor_copy(of_row(new, row), boxes.column(shape, label))


def box_page(
    b: KernelBuilder, shape: CacheShape, boxes: Boxes, k_rows: Tg, label: str, *, count: int = PAGE_SIZE
) -> None:
    """The boxes of `count` keys in GMEM that were written just before.

    `k_rows` says where the first key of head 0 lies. A whole page's box is written anew. The box of fewer keys is
    joined with what the block's column holds."""
    heads, dim, step = shape.num_kv_heads, shape.head_dim, 2 * boxes.num_blocks
    with b.lmem_scope():
        keys = b.lmem_alloc_tensor((heads, dim, 1, count), BF16)
        strides = (shape.head_bytes, 2 * PAGE_SIZE, 2 * PAGE_SIZE, 2)
        far = Tg(k_rows.addr, keys.shape, BF16, strides, base_reg=k_rows.base_reg, label=k_rows.label)
        b.tdma_g2l_tensor_copy(far, keys)
        box = [b.lmem_alloc_tensor((heads, dim, 1, 1), BF16) for _ in range(2)]
        b.tiu_max_pooling(box[0], keys, (1, count))
        b.tiu_mul(keys, keys, NEG_ONE)  # as min pooling, which not every chip has
        b.tiu_max_pooling(box[1], keys, (1, count))
        b.tiu_mul(box[1], box[1], NEG_ONE)
        for side, tensor in enumerate(box):
            column = Tg(
                boxes.addr + side * dim * step, tensor.shape, BF16, (2 * dim * step, step, step, 2), label=label
            )
            if count < PAGE_SIZE:
                old = b.lmem_alloc_tensor(tensor.shape, BF16)
                b.tdma_g2l_tensor_copy(column, old)
                (b.tiu_min if side else b.tiu_max)(tensor, tensor, old)
            b.tdma_l2g_tensor_copy(tensor, column)


def page_scores(b: KernelBuilder, shape: CacheShape, boxes: Sequence[Boxes], q: Tl, scores: Sequence[int]) -> None:
    """Quest's bound on q.k over each page (arXiv:2406.10774, section 3.3), for all heads of one token of each sequence.

    q       (1, rows, 1, q_heads * head_dim), rows over lanes, the heads of a KV head's group side by side
    boxes   of each row's sequence
    scores  for each row a GMEM address of [kv_heads][2][group][num_blocks]: the upper, then the lower halves of float32
            numbers"""
    heads, group, dim, count = shape.num_kv_heads, shape.group, shape.head_dim, q.shape[1]
    with b.lmem_scope():
        left = b.lmem_alloc_tensor((1, count, heads * group, 2 * dim), BF16)
        rows = Tl(q.addr, (1, count, heads * group, dim), (q.stride[0], q.stride[1], 2 * dim, 2), BF16)
        half = Tl(left.addr, rows.shape, (left.stride[0], left.stride[1], 4 * dim, 2), BF16)
        b.tiu_max(half, rows, 0)
        b.tiu_min(half._replace(addr=half.addr + 2 * dim), rows, 0)
        work = _ScoreWork(b, shape, boxes[0].num_blocks)
        for row, (of_row, to) in enumerate(zip(boxes, scores, strict=True)):
            start = rows_of(b, left, row, 1).addr
            for head in range(heads):
                queries = ml_at(b.chip, start + head * group * 4 * dim, MlShape(group, 1, 2 * dim, 2 * dim))
                work.score(queries, of_row, head, to + 2 * head * 2 * group * of_row.num_blocks)
        work.store()


class _ScoreWork:
    """Room for two products with boxes, which take turns: as many blocks at a time as fit."""

    def __init__(self, b: KernelBuilder, shape: CacheShape, num_blocks: int) -> None:
        self.b, self.shape = b, shape
        both, self.turn = 2 * shape.head_dim, 0
        self._waiting: tuple[Ml, Mg] | None = None
        a_lane = 2 * (4 * shape.head_dim + 4 * shape.group)  # bytes of a block's box and scores, twice
        fit = b.chip.num_lanes * max(b.lmem.free_bytes // a_lane // 8 * 8, 8)
        self.columns = min(_SCORE_COLUMNS, fit, num_blocks)
        way_out = "keep fewer blocks or smaller heads"
        widest = ml_default_shape(b.chip, both, self.columns), ml_default_shape(b.chip, shape.group, self.columns)
        self._room = [
            (
                b.lmem_alloc_matrix(widest[0], BF16, way_out=way_out).addr,
                b.lmem_alloc_matrix(widest[1], BF16, ps32=True, way_out=way_out).addr,
            )
            for _ in range(2)
        ]

    def score(self, queries: Ml, boxes: Boxes, head: int, to: int) -> None:
        """Scores of all blocks for one KV head's queries [group, 2 * head_dim]."""
        b, group, both, total = self.b, queries.shape.n, queries.shape.col, boxes.num_blocks
        for start in range(0, total, self.columns):
            count = min(self.columns, total - start)
            first = boxes.addr + 2 * (head * both * total + start)
            right_addr, result_addr = self._room[self.turn % 2]
            self.turn += 1
            right = ml_at(b.chip, right_addr, ml_default_shape(b.chip, both, count))
            result = ml_at(b.chip, result_addr, ml_default_shape(b.chip, group, count))
            b.tdma_g2l_matrix_copy(Mg(first, both, count, BF16, 2 * total, label=boxes.label), right)
            self.store()
            b.tiu_matrix_multiplication(result, queries, right, ps32_mode=2)
            planes = ml_default_shape(b.chip, 2 * group, count)
            far = Mg(to + 2 * start, 2 * group, count, BF16, 2 * total)
            self._waiting = ml_at(b.chip, result.addr, planes), far

    def store(self) -> None:
        """Stores the last product, which the TIU has worked out while the next boxes were loaded."""
        if self._waiting is not None:
            self.b.tdma_l2g_matrix_copy(*self._waiting)
            self._waiting = None

"""The paged cache as the chip keeps it.

The kernels here store new keys and values in pages, keep a box (maxima and minima) around the keys of each page, and
score pages by these boxes.

A key page of one head lies dim-major, [head_dim][page_size], a value page token-major, [page_size][head_dim]; heads
are head_bytes apart. The boxes of one head are the rows of a matrix with a column for each block: [2 *
head_dim][blocks], maxima before minima. Rows of queries, keys and values are (1, m, 1, heads * head_dim) in LMEM,
one token a channel, as products leave them."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.kernels.builder import KernelBuilder
from npusim.kernels.tensors import Fmt, Mg, Ml, MlShape, Tg, Tl, ml_at, ml_default_shape

BF16 = Fmt.BF16
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
    """One layer's boxes: bf16 [num_kv_heads][2 * head_dim][num_blocks] in GMEM at `addr`.

    Where a label moves the boxes, `addr` is relative to it."""

    addr: int
    num_blocks: int

    def column(self, shape: CacheShape, label: str | None, dims: str) -> Tg:
        """The column of one block in all heads.

        Its shape is (2 * heads, 1, head_dim, 1), or with dims "channels" (2 * heads, head_dim, 1, 1)."""
        step = 2 * self.num_blocks
        extents = (
            (2 * shape.num_kv_heads, shape.head_dim, 1, 1)
            if dims == "channels"
            else (2 * shape.num_kv_heads, 1, shape.head_dim, 1)
        )
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


def update_boxes(b: KernelBuilder, shape: CacheShape, boxes: Boxes, k: Tl, label: str) -> None:
    """Widens the box of the last page by one more key, k (1, 1, 1, heads * head_dim).

    `label` names the block's column."""
    heads, dim = shape.num_kv_heads, shape.head_dim
    with b.lmem_scope():
        box = b.lmem_alloc_tensor((1, 1, 2 * heads, dim), BF16)
        column = Tl(box.addr, (2 * heads, 1, dim, 1), (2 * dim, 2 * dim, 2, 2), BF16)
        b.tdma_g2l_tensor_copy(boxes.column(shape, label, "rows"), column)
        keys = Tl(k.addr, (1, 1, heads, dim), (2 * dim * heads, 2 * dim * heads, 2 * dim, 2), BF16)
        largest = Tl(box.addr, keys.shape, (4 * dim * heads, 4 * dim * heads, 4 * dim, 2), BF16)
        smallest = Tl(box.addr + 2 * dim, keys.shape, largest.stride, BF16)
        new = b.lmem_alloc_tensor(box.shape, BF16)
        b.tiu_max(Tl(new.addr, keys.shape, largest.stride, BF16), largest, keys)
        b.tiu_min(Tl(new.addr + 2 * dim, keys.shape, largest.stride, BF16), smallest, keys)
        b.tdma_l2g_tensor_copy(Tl(new.addr, column.shape, column.stride, BF16), boxes.column(shape, label, "rows"))


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


def page_scores(b: KernelBuilder, shape: CacheShape, boxes: Boxes, q: Tl, scores: int) -> None:
    """Quest's bound on q.k over each page (arXiv:2406.10774, section 3.3), for all heads of one token.

    q       (1, 1, 1, q_heads * head_dim), the heads of a KV head's group side by side
    scores  GMEM address of [kv_heads][2][group][num_blocks]: the upper, then the lower halves of float32 numbers"""
    heads, group, dim = shape.num_kv_heads, shape.group, shape.head_dim
    with b.lmem_scope():
        left = b.lmem_alloc_tensor((1, 1, heads * group, 2 * dim), BF16)
        rows = Tl(q.addr, (1, 1, heads * group, dim), (2 * dim * heads * group,) * 2 + (2 * dim, 2), BF16)
        half = Tl(left.addr, rows.shape, (left.stride[0], left.stride[1], 4 * dim, 2), BF16)
        b.tiu_max(half, rows, 0)
        b.tiu_min(Tl(half.addr + 2 * dim, half.shape, half.stride, BF16), rows, 0)
        columns = min(_SCORE_COLUMNS, b.chip.num_lanes * max(b.lmem.free_bytes // (4 * dim + 4 * group) // 8 * 8, 8))
        for head in range(heads):
            queries = ml_at(b.chip, left.addr + head * group * 4 * dim, MlShape(group, 1, 2 * dim, 2 * dim))
            for start in range(0, boxes.num_blocks, columns):
                blocks = range(start, min(start + columns, boxes.num_blocks))
                first = Boxes(boxes.addr + 2 * (head * 2 * dim * boxes.num_blocks + start), boxes.num_blocks)
                to = scores + 2 * (head * 2 * group * boxes.num_blocks + start)
                _score_columns(b, queries, first, len(blocks), to)


def _score_columns(b: KernelBuilder, queries: Ml, boxes: Boxes, count: int, scores: int) -> None:
    """Scores of `count` blocks for one KV head's queries [group, 2 * head_dim].

    `boxes` and `scores` begin with the first of these blocks."""
    group, both, total = queries.shape.n, queries.shape.col, boxes.num_blocks
    with b.lmem_scope():
        way_out = "keep fewer blocks or smaller heads"
        right = b.lmem_alloc_matrix(ml_default_shape(b.chip, both, count), BF16, way_out=way_out)
        result = b.lmem_alloc_matrix(ml_default_shape(b.chip, group, count), BF16, ps32=True, way_out=way_out)
        b.tdma_g2l_matrix_copy(Mg(boxes.addr, both, count, BF16, 2 * total), right)
        b.tiu_matrix_multiplication(result, queries, right, ps32_mode=2)
        planes = ml_default_shape(b.chip, 2 * group, count)
        b.tdma_l2g_matrix_copy(ml_at(b.chip, result.addr, planes), Mg(scores, 2 * group, count, BF16, 2 * total))

"""Attention over gathered pages: every KV head attends with its group of query heads to the pages that its descriptors name.

A K page is [head_dim][page_size] in GMEM and becomes one piece of the right-hand matrix K^T, a V page [page_size][head_dim] becomes
page_size of its rows; each is one transfer whose address can be patched. Scores and results pass through a GMEM scratch, which turns
matrices that are spread over lanes into rows over lanes. Bit for bit ops.attention of reference_model.quant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import BF16, alloc_rows, load_constant, load_rows, row_max, row_sum, rows_of
from npusim.kernels.tables import InterpolatedTable, ScientificTable, interpolate, scientific
from npusim.kernels.tensors import Ml, MlShape, Tg, Tl, mg, ml_at, ml_default_shape, tg

PageAddress = tuple[int, str | None]
"""GMEM address of a page and its label (None for one that stays)."""


@dataclass(frozen=True)
class AttentionShape:
    """`num_tokens` new tokens, grouped query heads, and `num_pages` pages for each KV head."""

    num_tokens: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_pages: int
    page_size: int = 16

    @property
    def group(self) -> int:
        return self.num_heads // self.num_kv_heads

    @property
    def num_slots(self) -> int:
        return self.num_pages * self.page_size

    @property
    def rows_a_head(self) -> int:
        """Rows of one KV head's scores, token by token and within it query head by query head."""
        return self.num_tokens * self.group

    @property
    def scratch_bytes(self) -> int:
        """GMEM that the kernel needs for itself."""
        rows = self.num_tokens * self.num_heads
        return 2 * rows * max(self.num_slots, self.head_dim) + 2 * rows * self.head_dim


@dataclass(frozen=True)
class Softmax:
    """The tables of exp and of the reciprocal."""

    exp: InterpolatedTable
    reciprocal: ScientificTable


def softmax(b: KernelBuilder, rows: Tl, tables: Softmax) -> Tl:
    """rows (1, m, 1, s) become exp(rows - maximum); returns the reciprocal of each row's sum (1, m, 1, 1), allocated."""
    total, factor = (b.lmem_alloc_tensor((1, rows.shape[1], 1, 1), BF16) for _ in range(2))
    row_max(b, total, rows)
    b.tiu_sub(rows, rows, total.broadcast(rows.shape))
    interpolate(b, tables.exp, rows, rows)
    row_sum(b, total, rows)
    scientific(b, tables.reciprocal, factor, total)
    return factor


def attention(
    b: KernelBuilder,
    res: Tl,
    q: Tl,
    k_pages: Sequence[Sequence[PageAddress]],
    v_pages: Sequence[Sequence[PageAddress]],
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
    _check(shape, q, res, k_pages, v_pages, mask)
    _Attention(b, shape, k_pages, v_pages, mask, tables, scratch, base_reg).run(q, res)


def _check(
    shape: AttentionShape, q: Tl, res: Tl, k_pages: Sequence[Sequence[PageAddress]], v_pages: Sequence[Sequence[PageAddress]], mask: Tg
) -> None:
    wanted = (1, shape.num_tokens, 1, shape.num_heads * shape.head_dim)
    if q.shape != wanted or res.shape != wanted or shape.num_heads % shape.num_kv_heads:
        raise UsageError(f"q has shape {q.shape} and res {res.shape}; for {shape} both are {wanted}, heads a multiple of KV heads")
    for name, pages in (("k_pages", k_pages), ("v_pages", v_pages)):
        if len(pages) != shape.num_kv_heads or any(len(row) != shape.num_pages for row in pages):
            found = [len(row) for row in pages]
            raise UsageError(f"{name} names {found} pages; it takes {shape.num_pages} for each of {shape.num_kv_heads} KV heads")
    if mask.shape != (1, shape.num_tokens, 1, shape.num_slots):
        raise UsageError(f"mask has shape {mask.shape}; it is {(1, shape.num_tokens, 1, shape.num_slots)}")
    if shape.num_slots > 4095:
        raise UsageError(f"{shape.num_pages} pages are {shape.num_slots} slots; the TIU takes 4095 in a row: use a smaller budget")


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

    def run(self, q: Tl, res: Tl) -> None:
        """One token: all heads in one softmax. Several: a KV head at a time, which keeps rows few."""
        shape = self.shape
        at_once = shape.num_kv_heads if shape.num_tokens == 1 else 1
        with self.b.lmem_scope():
            self._start_gather(at_once)
            for first in range(0, shape.num_kv_heads, at_once):
                self._heads(q, res, range(first, first + at_once))
            if shape.num_tokens > 1:
                self.b.tdma_g2l_tensor_copy(self._far(self._out_addr, res.shape), res)

    def _heads(self, q: Tl, res: Tl, heads: range) -> None:
        b, shape, count = self.b, self.shape, self.shape.rows_a_head
        for turn, head in enumerate(heads):
            with b.lmem_scope():
                left, right = self._queries(q, head), self._k_matrix()
                scores = b.lmem_alloc_matrix(MlShape(count, shape.num_pages, shape.page_size, shape.num_slots), BF16)
                b.tiu_matrix_multiplication(scores, left, right)
                self._used_pages()
                b.tdma_l2g_matrix_copy(
                    scores, mg(self._row_addr(turn, shape.num_slots), count, shape.num_slots, BF16, base_reg=self.base_reg)
                )
        with b.lmem_scope():
            rows = load_rows(b, self._far(self.scratch.addr, (1, len(heads) * count, 1, shape.num_slots)))
            self._hide(rows)
            factor = softmax(b, rows, self.tables)
            for turn, _ in enumerate(heads):
                with b.lmem_scope():
                    self._weigh(rows_of(b, rows, turn * count, count), turn)
            out = load_rows(b, self._far(self.scratch.addr, (1, len(heads) * count, 1, shape.head_dim)))
            b.tiu_mul(out, out, factor.broadcast(out.shape))
            self._deliver(out, res, heads[0])

    def _queries(self, q: Tl, head: int) -> Ml:
        """The rows of one KV head's queries on one lane."""
        shape, count, width = self.shape, self.shape.rows_a_head, self.shape.head_dim
        start = q.addr + 2 * head * shape.group * width
        if shape.num_tokens == 1 and width % 8 == 0:
            return ml_at(self.b.chip, start, MlShape(count, 1, width, width))
        left = self.b.lmem_alloc_matrix(MlShape(count, 1, width, width), BF16, way_out="take fewer tokens at a time")
        source = Tl(start, (1, shape.num_tokens, shape.group, width), (q.stride[0], q.stride[1], 2 * width, 2), BF16)
        self.b.tdma_l2l_tensor_copy(source, Tl(left.addr, (1, 1, count, width), (0, 0, left.n_stride, 2), BF16))
        return left

    def _hide(self, rows: Tl) -> None:
        """Adds the mask: one row for all, or a row for each token's group."""
        b, shape = self.b, self.shape
        with b.lmem_scope():
            if shape.num_tokens == 1:
                mask = load_constant(b, self.mask, rows.shape)
            else:
                mask = alloc_rows(b, rows.shape[1], shape.num_slots)
                repeated = (1, shape.num_tokens, shape.group, shape.num_slots)
                steps = (0, self.mask.stride[1], 0, 2)
                b.tdma_g2l_tensor_copy(tg(self.mask.addr, repeated, BF16, steps, base_reg=self.mask.base_reg, label=self.mask.label), mask)
            b.tiu_add(rows, rows, mask)

    def _weigh(self, weights: Tl, turn: int) -> None:
        """weights @ V of one KV head, to the scratch."""
        b, shape, count = self.b, self.shape, self.shape.rows_a_head
        left = b.lmem_alloc_matrix(MlShape(count, 1, shape.num_slots, shape.num_slots), BF16, way_out="take fewer tokens or pages")
        b.tdma_l2l_tensor_copy(weights, Tl(left.addr, (1, 1, count, shape.num_slots), (0, 0, left.n_stride, 2), BF16))
        out = b.lmem_alloc_matrix(ml_default_shape(b.chip, count, shape.head_dim), BF16)
        b.tiu_matrix_multiplication(out, left, self._v_matrix())
        self._used_pages()
        b.tdma_l2g_matrix_copy(out, mg(self._row_addr(turn, shape.head_dim), count, shape.head_dim, BF16, base_reg=self.base_reg))

    def _deliver(self, out: Tl, res: Tl, head: int) -> None:
        """Rows (token, query head) to the columns of each token."""
        b, shape, width = self.b, self.shape, self.shape.head_dim
        if shape.num_tokens == 1:
            b.tdma_l2l_tensor_copy(out, Tl(res.addr, (1, 1, shape.num_heads, width), (0, 0, 2 * width, 2), BF16))
            return
        columns = 2 * shape.num_heads * width
        addr = self._out_addr + 2 * head * shape.group * width
        b.tdma_l2g_tensor_copy(
            out, tg(addr, (1, shape.num_tokens, shape.group, width), BF16, (0, columns, 2 * width, 2), base_reg=self.base_reg)
        )

    @property
    def _out_addr(self) -> int:
        return self.scratch.addr + self.shape.scratch_bytes - 2 * self.shape.num_tokens * self.shape.num_heads * self.shape.head_dim

    def _row_addr(self, turn: int, columns: int) -> int:
        return self.scratch.addr + 2 * turn * self.shape.rows_a_head * columns

    def _far(self, addr: int, shape: tuple[int, int, int, int]) -> Tg:
        return tg(addr, shape, BF16, base_reg=self.base_reg)

    def _start_gather(self, at_once: int) -> None:
        """A ring of page buffers: the gather of the next matrix is issued as soon as a buffer is free."""
        b, shape = self.b, self.shape
        k_shape = MlShape(shape.head_dim, shape.num_pages, shape.page_size, shape.num_slots)
        v_shape = ml_default_shape(b.chip, shape.num_slots, shape.head_dim)
        k_bytes = shape.head_dim * ml_at(b.chip, 0, k_shape).n_stride
        v_bytes = shape.num_slots * ml_at(b.chip, 0, v_shape).n_stride
        size = max(k_bytes, v_bytes)
        count = 2 if 4 * size < 3 * b.lmem.free_bytes else 1
        fit = b.lmem.free_bytes // (size // shape.num_pages)
        way_out = f"about {fit} pages would fit: use a smaller budget, or free LMEM"
        self._buffers = [b.lmem_alloc_tensor((1, b.chip.num_lanes, 1, size // 2), BF16, way_out=way_out).addr for _ in range(count)]
        self._k_shape, self._v_shape = k_shape, v_shape
        self._loads: list[Callable[[int], None]] = []
        for first in range(0, shape.num_kv_heads, at_once):
            heads = range(first, first + at_once)
            self._loads += [lambda addr, head=head: self._load_k(addr, head) for head in heads]  # type: ignore[misc]
            self._loads += [lambda addr, head=head: self._load_v(addr, head) for head in heads]  # type: ignore[misc]
        self._used = 0
        for i, addr in enumerate(self._buffers[: len(self._loads)]):
            self._loads[i](addr)

    def _used_pages(self) -> None:
        """What reads the oldest buffer is issued: gathers into it again."""
        following = self._used + len(self._buffers)
        if following < len(self._loads):
            self._loads[following](self._buffers[self._used % len(self._buffers)])
        self._used += 1

    def _k_matrix(self) -> Ml:
        return ml_at(self.b.chip, self._buffers[self._used % len(self._buffers)], self._k_shape)

    def _v_matrix(self) -> Ml:
        return ml_at(self.b.chip, self._buffers[self._used % len(self._buffers)], self._v_shape)

    def _load_k(self, addr: int, head: int) -> None:
        b, shape = self.b, self.shape
        right = ml_at(b.chip, addr, self._k_shape)
        page_shape = (shape.head_dim, 1, 1, shape.page_size)
        for page, (far, label) in enumerate(self.k_pages[head]):
            turn, lane = divmod(page, b.chip.num_lanes)
            near = Tl(addr + lane * b.chip.lmem_bytes + turn * right.c_stride, page_shape, right.tl.stride, BF16)
            b.tdma_g2l_tensor_copy(tg(far, page_shape, BF16, base_reg=self.base_reg, label=label), near)

    def _load_v(self, addr: int, head: int) -> None:
        b, shape = self.b, self.shape
        right = ml_at(b.chip, addr, self._v_shape)
        part = MlShape(shape.page_size, right.shape.c, right.shape.w, shape.head_dim)
        for page, (far, label) in enumerate(self.v_pages[head]):
            near = ml_at(b.chip, addr + page * shape.page_size * right.n_stride, part)
            b.tdma_g2l_matrix_copy(mg(far, shape.page_size, shape.head_dim, BF16, base_reg=self.base_reg, label=label), near)

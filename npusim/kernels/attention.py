"""Attention over gathered pages. Each KV head of each sequence, with its group of query heads, attends to the pages
that its descriptors name.

A K page is [head_dim][page_size] in GMEM and becomes one piece of the right-hand matrix K^T. A V page is
[page_size][head_dim] and becomes page_size rows of V. Each page is one transfer, whose address can be patched. Pages
are gathered in tiles as large as the free LMEM allows.

The rows of a head's scores (token by token, and within a token query head by query head) are cut into units. A product
leaves a unit's scores spread over lanes, and a sum keeps its order only on one lane; so each unit is moved to a lane of
its own, as many units at a time as there are lanes. There the softmax works on all units at once, and each unit is the
left-hand matrix of its product with V, whose sums run on from tile to tile (ps32). However it is cut, the result equals
ops.attention of reference_model.quant bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.cache import PAGE_SIZE
from npusim.kernels.gather import Gather, HeadPages, PageAddress, PageShape, PageTile, whole_pieces
from npusim.kernels.rows import BF16, rows_of
from npusim.kernels.softmax import CHUNK_BYTES, Softmax, softmax, softmax_bytes
from npusim.kernels.tensors import Ml, MlShape, Tg, Tl, ml_at, tg
from npusim.mem.lmem import align_up

__all__ = ["AttentionShape", "PageAddress", "Softmax", "attention"]

_SCORES = 4
"""Products that may wait to be moved to their lanes."""


@dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """`num_tokens` new tokens of each of `num_sequences`, grouped query heads, and `num_pages` pages for each KV head
    of each sequence."""

    num_sequences: int = 1
    num_tokens: int = 1
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
    def num_rows(self) -> int:
        """New tokens of all sequences."""
        return self.num_sequences * self.num_tokens

    @property
    def num_pairs(self) -> int:
        """KV heads of all sequences."""
        return self.num_sequences * self.num_kv_heads


def attention(
    b: KernelBuilder,
    res: Tl | Tg,
    q: Tl,
    k_pages: Sequence[Sequence[PageAddress]],
    v_pages: Sequence[Sequence[PageAddress]],
    *,
    mask: Tg,
    shape: AttentionShape,
    tables: Softmax,
    base_reg: int = 0,
) -> None:
    """res (1, rows, 1, heads * head_dim) = attention of q, of the same shape and scaled, over each KV head's pages.

    A row is a new token, sequence by sequence. `q` are rows over lanes; `res` is one row in LMEM, or rows in GMEM.
    k_pages, v_pages    for each sequence and KV head, [sequences * kv_heads][num_pages]
    mask                (1, rows, 1, slots) in GMEM, the same for all heads: 0, or the number that hides a slot
    """
    _check(shape, q, res, mask)
    for name, pages in (("k_pages", k_pages), ("v_pages", v_pages)):
        found = [len(row) for row in pages]
        if found != [shape.num_pages] * shape.num_pairs:
            raise UsageError(
                f"{name} names {found} pages; it takes {shape.num_pages} for each of {shape.num_pairs} KV heads"
            )
    work = _Attention(b, shape, q=q, res=res, pages=(k_pages, v_pages), mask=mask, tables=tables, base_reg=base_reg)
    work.run()


def _check(shape: AttentionShape, q: Tl, res: Tl | Tg, mask: Tg) -> None:
    """Raises UsageError where the tensors do not fit `shape`, or `shape` does not fit the TIU."""
    wanted = (1, shape.num_rows, 1, shape.num_heads * shape.head_dim)
    if q.shape != wanted or res.shape != wanted or shape.num_heads % shape.num_kv_heads or shape.head_dim % 8:
        raise UsageError(
            f"q has shape {q.shape} and res {res.shape}; for {shape} both are {wanted}, heads a multiple of KV heads, "
            "head_dim of 8"
        )
    if isinstance(res, Tl) and shape.num_rows > 1:
        raise UsageError(f"res holds {shape.num_rows} rows in LMEM; only one row is given there: name a GMEM tensor")
    if mask.shape != (1, shape.num_rows, 1, shape.num_slots):
        raise UsageError(f"mask has shape {mask.shape}; it is {(1, shape.num_rows, 1, shape.num_slots)}")
    if shape.num_slots > 4095:
        raise UsageError(
            f"{shape.num_pages} pages are {shape.num_slots} slots; the TIU takes 4095 in a row: use a smaller budget"
        )


@dataclass(frozen=True)
class _Unit:
    """Consecutive rows of the KV head `pair`, from row `first` of it on; `lane` is where they lie."""

    pair: int
    first: int
    lane: int


@dataclass(frozen=True)
class _Cut:
    """How rows are cut: `unit_rows` rows are `tokens` tokens of `members` query heads."""

    unit_rows: int
    members: int

    @property
    def tokens(self) -> int:
        return self.unit_rows // self.members


@dataclass
class _Attention:
    b: KernelBuilder
    shape: AttentionShape
    q: Tl
    res: Tl | Tg
    pages: tuple[Sequence[Sequence[PageAddress]], Sequence[Sequence[PageAddress]]]
    mask: Tg
    tables: Softmax
    base_reg: int

    def run(self) -> None:
        """Takes the first cut that fits LMEM: few large units where there is room, single rows where not."""
        for cut, chunk in [(cut, chunk) for cut in self._cuts() for chunk in CHUNK_BYTES]:
            turns = list(self._turns(cut))
            try:
                with self.b.lmem_scope():
                    gather = self._gather(cut, turns, chunk)
                    for units in turns:
                        self._turn(gather, cut, units)
                return
            except _NoRoom as error:
                last = error
        raise UsageError(str(last))

    @property
    def _block_tokens(self) -> int:
        """Tokens of a block of queries, each on a lane of its own."""
        tokens, lanes = self.shape.num_tokens, self.b.chip.num_lanes
        return next(t for t in range(1, tokens + 1) if tokens % t == 0 and tokens // t <= lanes)

    def _cuts(self) -> list[_Cut]:
        block, group = self._block_tokens, self.shape.group
        whole = [_Cut(t * group, group) for t in range(block, 0, -1) if block % t == 0]
        return whole + [_Cut(rows, rows) for rows in range(group - 1, 0, -1) if group % rows == 0]

    def _turns(self, cut: _Cut) -> Iterator[list[_Unit]]:
        """The units that are worked on together, in order."""
        shape, lanes = self.shape, self.b.chip.num_lanes
        places = [
            (pair, first)
            for pair in range(shape.num_pairs)
            for first in range(0, shape.num_tokens * shape.group, cut.unit_rows)
        ]
        for start in range(0, len(places), lanes):
            yield [_Unit(*place, lane) for lane, place in enumerate(places[start : start + lanes])]

    def _gather(self, cut: _Cut, turns: list[list[_Unit]], chunk: int) -> Gather:
        shape = self.shape
        sides = [
            HeadPages(pages[pair], bool(are_values))
            for units in turns
            for are_values, pages in enumerate(self.pages)
            for pair in dict.fromkeys(unit.pair for unit in units)
        ]
        page = PageShape(shape.head_dim, shape.page_size, shape.num_pages)
        most = max(len(self._token_rows(units)) for units in turns)

        def beside(pages: int) -> int:
            return self._beside(cut, pages, most, chunk)

        try:
            return Gather(self.b, page, sides, self.base_reg, beside)
        except UsageError as error:
            raise _NoRoom(str(error)) from None

    def _beside(self, cut: _Cut, pages: int, mask_rows: int, chunk: int) -> int:
        """LMEM bytes of a lane that are used beside a tile of `pages` pages.

        They hold a unit's rows, and either the scores, or the softmax, or the products with V, whichever is largest."""
        shape, chip, rows = self.shape, self.b.chip, cut.unit_rows
        line = align_up(2 * shape.num_slots, chip.eu_num)
        piece = align_up(2 * shape.page_size, chip.eu_num)
        queries = self._block_tokens * shape.group * align_up(2 * shape.head_dim, 16) if shape.num_tokens > 1 else 0
        tiles = -(-shape.num_pages // pages)
        masks = tiles * mask_rows * piece * -(-pages // chip.num_lanes)
        scores = queries + masks + _SCORES * rows * piece * -(-pages // chip.num_lanes)
        out = ml_at(chip, 0, whole_pieces(chip, rows, shape.head_dim)).n_stride
        part = 0 if pages == shape.num_pages else rows * align_up(2 * pages * shape.page_size, chip.eu_num)
        products = self._num_outs(cut) * 2 * rows * out + part + rows * align_up(2 * shape.head_dim, 16)
        return rows * (line + 16) + max(scores, products, softmax_bytes(chip, rows, shape.num_slots, chunk))

    def _num_outs(self, cut: _Cut) -> int:
        """Products with V that lie in LMEM at once: those of a whole head, or some that wait to be moved."""
        of_head = self.shape.num_tokens * self.shape.group // cut.unit_rows
        return min(max(of_head, _SCORES), self.b.chip.num_lanes, of_head * self.shape.num_pairs)

    def _turn(self, gather: Gather, cut: _Cut, units: list[_Unit]) -> None:
        b, shape = self.b, self.shape
        with b.lmem_scope():
            rows = b.lmem_alloc_tensor((cut.unit_rows, len(units), 1, shape.num_slots), BF16)
            factor = b.lmem_alloc_tensor((cut.unit_rows, len(units), 1, 1), BF16)
            self._score(gather, cut, units, rows)
            softmax(b, rows, factor, self.tables, gather.fill)
            self._weigh(gather, cut, units, rows, factor=factor)

    def _score(self, gather: Gather, cut: _Cut, units: list[_Unit], rows: Tl) -> None:
        """Masked scores of the units, each moved to its lane of `rows`."""
        b, shape, lane_bytes = self.b, self.shape, self.b.chip.lmem_bytes
        with b.lmem_scope():
            masks = {first: self._mask(units, first, count) for first, count in gather.spans}
            size = ml_at(b.chip, 0, self._score_shape(cut, gather.tile_pages)).n_stride * cut.unit_rows
            room = [b.lmem.alloc(size, "scores", "take fewer tokens") for _ in range(min(_SCORES, len(units)))]
            turn = 0
            for pair, members in groupby(units, key=lambda unit: unit.pair):
                with b.lmem_scope():
                    lefts = self._queries(pair, cut, list(members))
                    for tile in gather.tiles(hold=pair == units[-1].pair):
                        for unit, left in lefts:
                            scores = ml_at(b.chip, room[turn % len(room)], self._score_shape(cut, tile.count))
                            b.tiu_matrix_multiplication(scores, left, tile.matrix)
                            self._add_mask(cut, scores, masks[tile.first], unit, self._token_rows(units)[0])
                            to = rows.addr + unit.lane * lane_bytes + 2 * tile.first * shape.page_size
                            near = (cut.unit_rows, 1, tile.count, shape.page_size)
                            step = 2 * shape.page_size
                            b.tdma_l2l_tensor_copy(scores.tl, Tl(to, near, (rows.stride[0], 0, step, 2), BF16))
                            turn += 1

    def _score_shape(self, cut: _Cut, pages: int) -> MlShape:
        size = self.shape.page_size
        return MlShape(cut.unit_rows, pages, size, pages * size)

    def _token_rows(self, units: list[_Unit]) -> range:
        """Rows of the mask that the units see."""
        shape = self.shape
        rows = [u.pair // shape.num_kv_heads * shape.num_tokens + u.first // shape.group for u in units]
        last = units[-1].pair // shape.num_kv_heads * shape.num_tokens
        sizes = {u.first for u in units}
        step = min((b - a for a in sizes for b in sizes if b > a), default=shape.num_tokens * shape.group)
        return range(min(rows), min(max(rows) + max(step // shape.group, 1), last + shape.num_tokens))

    def _mask(self, units: list[_Unit], first: int, count: int) -> Tl:
        """The masks that the units see of a tile's pages, (rows, count, 1, page_size), laid out as its scores are."""
        b, size, rows = self.b, self.shape.page_size, self._token_rows(units)
        near = b.lmem_alloc_tensor((len(rows), count, 1, size), BF16)
        start = self.mask.addr + rows.start * self.mask.stride[1] + 2 * first * size
        strides = (self.mask.stride[1], 2 * size, 2 * size, 2)
        b.tdma_g2l_tensor_copy(
            tg(start, near.shape, BF16, strides, base_reg=self.mask.base_reg, label=self.mask.label), near
        )
        return near

    def _add_mask(self, cut: _Cut, scores: Ml, mask: Tl, unit: _Unit, first_row: int) -> None:
        """Each token's mask serves its whole group of rows."""
        shape = self.shape
        row = unit.pair // shape.num_kv_heads * shape.num_tokens + unit.first // shape.group - first_row
        extents = (cut.tokens, scores.shape.c, cut.members, shape.page_size)
        n, c, _, w = scores.tl.stride
        near = Tl(scores.addr, extents, (n * cut.members, c, n, w), BF16)
        self.b.tiu_add(near, near, Tl(mask.addr + row * mask.stride[0], extents, (*mask.stride[:2], 0, 2), BF16))

    def _queries(self, pair: int, cut: _Cut, units: list[_Unit]) -> list[tuple[_Unit, Ml]]:
        """The queries of the units of one KV head, each a left-hand matrix on one lane."""
        b, shape, width = self.b, self.shape, self.shape.head_dim
        sequence, head = divmod(pair, shape.num_kv_heads)
        tokens = rows_of(b, self.q, sequence * shape.num_tokens, shape.num_tokens)
        start = tokens.addr + 2 * head * shape.group * width
        wanted = MlShape(cut.unit_rows, 1, width, width)
        if shape.num_tokens == 1:
            return [(unit, ml_at(b.chip, start + 2 * unit.first * width, wanted)) for unit in units]
        block = self._block_tokens * shape.group
        addr = b.lmem_alloc_tensor((1, 1, block, width), BF16, way_out="take fewer tokens at a time").addr
        step = 2 * width
        b.tdma_l2l_tensor_copy(
            Tl(start, (1, shape.num_tokens, shape.group, width), (*tokens.stride[:2], step, 2), BF16),
            Tl(addr, (1, shape.num_tokens // self._block_tokens, block, width), (0, step * block, step, 2), BF16),
        )
        found = []
        for unit in units:
            lane, row = divmod(unit.first, block)
            found.append((unit, ml_at(b.chip, addr + lane * b.chip.lmem_bytes + row * step, wanted)))
        return found

    def _weigh(self, gather: Gather, cut: _Cut, units: list[_Unit], rows: Tl, *, factor: Tl) -> None:
        """exp(scores) @ V of the units times each row's factor, to the result."""
        b, shape, chip = self.b, self.shape, self.b.chip
        with b.lmem_scope():
            wanted = whole_pieces(chip, cut.unit_rows, shape.head_dim)
            tiled = gather.tile_pages < shape.num_pages
            outs = [b.lmem_alloc_matrix(wanted, BF16, ps32=tiled) for _ in range(self._num_outs(cut))]
            near = b.lmem_alloc_tensor((cut.unit_rows, len(units), 1, shape.head_dim), BF16)
            for _, members in groupby(units, key=lambda unit: unit.pair):
                of_head = list(members)
                for tile in gather.tiles():
                    mode = (1 if tile.first else 0) | (2 if tile.first + tile.count < shape.num_pages else 0)
                    with b.lmem_scope():
                        for unit, left in zip(of_head, self._weights(cut, of_head, rows, tile), strict=True):
                            b.tiu_matrix_multiplication(outs[unit.lane % len(outs)], left, tile.matrix, ps32_mode=mode)
                for unit in of_head:
                    row = Tl(
                        near.addr + unit.lane * chip.lmem_bytes,
                        (cut.unit_rows, 1, wanted.c, wanted.w),
                        (near.stride[0], 0, 2 * wanted.w, 2),
                        BF16,
                    )
                    b.tdma_l2l_tensor_copy(outs[unit.lane % len(outs)].tl, row)
            b.tiu_mul(near, near, factor.broadcast(near.shape))
            self._deliver(cut, units, near)

    def _weights(self, cut: _Cut, units: list[_Unit], rows: Tl, tile: PageTile) -> list[Ml]:
        """A tile's columns of the units' rows, each a left-hand matrix on its lane."""
        b, slots = self.b, tile.count * self.shape.page_size
        lane0, lane_bytes = units[0].lane, b.chip.lmem_bytes
        addr = rows.addr
        if tile.count < self.shape.num_pages:
            columns = (cut.unit_rows, len(units), 1, slots)
            near = b.lmem_alloc_tensor(columns, BF16)
            addr = near.addr
            source = Tl(
                rows.addr + lane0 * lane_bytes + 2 * tile.first * self.shape.page_size, columns, rows.stride, BF16
            )
            b.tdma_l2l_tensor_copy(source, near._replace(addr=addr + lane0 * lane_bytes))
        wanted = MlShape(cut.unit_rows, 1, slots, slots)
        return [ml_at(b.chip, addr + unit.lane * lane_bytes, wanted) for unit in units]

    def _deliver(self, cut: _Cut, units: list[_Unit], near: Tl) -> None:
        """The units' rows, (token, query head), become columns of their token."""
        width, lane_bytes = 2 * self.shape.head_dim, self.b.chip.lmem_bytes
        n, c, _, w = near.stride
        for run, step in self._runs(units):
            extents = (cut.tokens, len(run), cut.members, self.shape.head_dim)
            source = Tl(near.addr + run[0].lane * lane_bytes, extents, (n * cut.members, c, n, w), BF16)
            to = self.res.addr + self._place(run[0])
            if isinstance(self.res, Tl):
                here = (1, 1, len(run) * cut.members, self.shape.head_dim)
                self.b.tdma_l2l_tensor_copy(source, Tl(to, here, (0, 0, width, 2), BF16))
            else:
                strides = (self.res.stride[1], step, width, 2)
                there = tg(to, extents, BF16, strides, base_reg=self.res.base_reg, label=self.res.label)
                self.b.tdma_l2g_tensor_copy(source, there)

    def _runs(self, units: list[_Unit]) -> Iterator[tuple[list[_Unit], int]]:
        """Units whose rows lie evenly spaced in the result, and their distance."""
        run, step = [units[0]], 0
        for unit in units[1:]:
            distance = self._place(unit) - self._place(run[-1])
            if distance < 0 or (len(run) > 1 and distance != step):
                yield run, step
                run, step = [unit], 0
            else:
                run, step = [*run, unit], distance
        yield run, step

    def _place(self, unit: _Unit) -> int:
        """Where the first row of a unit goes, in bytes behind the result's start."""
        shape = self.shape
        sequence, head = divmod(unit.pair, shape.num_kv_heads)
        token, member = divmod(unit.first, shape.group)
        row = sequence * shape.num_tokens + token
        return row * self.res.stride[1] + 2 * shape.head_dim * (head * shape.group + member)


class _NoRoom(UsageError):
    """A cut does not fit the free LMEM."""

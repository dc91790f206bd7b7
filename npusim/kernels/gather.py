"""Gathers pages by address: tiles of K and V pages go into a ring of LMEM buffers before they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.tensors import Fmt, Ml, MlShape, Tl, mg, ml_at, tg

BF16 = Fmt.BF16
PageAddress = tuple[int, str | None]
"""GMEM address of a page and its label (None for a page that does not move)."""


@dataclass(frozen=True)
class PageShape:
    """`num_pages` pages of each head; a K page is [head_dim][page_size], a V page [page_size][head_dim]."""

    head_dim: int
    page_size: int
    num_pages: int


@dataclass(frozen=True)
class HeadPages:
    """One head's pages, of keys or of values."""

    pages: Sequence[PageAddress]
    are_values: bool


@dataclass(frozen=True)
class PageTile:
    """Pages [first, first + count) of a head in LMEM, as a right-hand matrix.

    It is K^T (head_dim, slots) or V (slots, head_dim)."""

    first: int
    count: int
    matrix: Ml


def whole_pieces(chip: Chip, rows: int, columns: int) -> MlShape:
    """A matrix of `columns`, a multiple of 8, over as many lanes as can hold equally many whole EU rows each."""
    width = next(w for w in range(8, columns + 1, 8) if columns % w == 0 and columns // w <= chip.num_lanes)
    return MlShape(rows, columns // width, width, columns)


class Gather:
    """Loads all tiles of `sides` in order. The next load is issued as soon as a buffer is free."""

    def __init__(
        self,
        b: KernelBuilder,
        shape: PageShape,
        sides: Sequence[HeadPages],
        base_reg: int,
        beside: Callable[[int], int],
    ) -> None:
        """`beside(pages)` is the LMEM of a lane, in bytes, that the work on a tile of `pages` pages needs besides
        the tile."""
        self.b, self.shape, self._base_reg = b, shape, base_reg
        pages, buffers, size = self._choose(beside)
        self.tile_pages = pages
        """Of all tiles but a head's last one, which may have fewer."""
        self.spans = [(first, min(pages, shape.num_pages - first)) for first in range(0, shape.num_pages, pages)]
        """(first page, pages) of each tile of a head."""
        self._queue = [(side, first, count) for side in sides for first, count in self.spans]
        self._buffers = [b.lmem_alloc_tensor((1, b.chip.num_lanes, 1, size // 2), BF16).addr for _ in range(buffers)]
        self._loaded = self._used = 0
        for _ in range(buffers):
            self._load()

    def tiles(self, hold: bool = False) -> Iterator[PageTile]:
        """The tiles of the next side. What reads a tile must be issued before the next tile is asked for.

        With `hold`, what follows the last one is not loaded until `fill`."""
        side = self._queue[self._used][0]
        while self._used < len(self._queue) and self._queue[self._used][0] is side:
            _, first, count = self._queue[self._used]
            yield PageTile(first, count, self._matrix(self._used))
            self._used += 1
            if not hold or (self._used < len(self._queue) and self._queue[self._used][0] is side):
                self._load()

    def fill(self) -> None:
        """Loads what the free buffers hold."""
        while self._loaded < min(len(self._queue), self._used + len(self._buffers)):
            self._load()

    def _choose(self, beside: Callable[[int], int]) -> tuple[int, int, int]:
        """(pages of a tile, buffers, bytes of a lane for each).

        Takes the largest tiles that leave room for what is used beside them."""
        free = self.b.lmem.free_bytes
        for buffers in (2, 1):
            for count in range(self.shape.num_pages, 0, -1):
                size = self._bytes(count)
                if buffers * size + beside(count) <= free:
                    return count, buffers, size
        raise UsageError(
            f"attention takes at least {self._bytes(1) + beside(1):,} bytes of LMEM a lane for a page "
            f"of {self.shape.page_size} slots of head_dim {self.shape.head_dim}, but {free:,} are free; "
            "free LMEM (smaller weight buffers), or take fewer tokens or slots"
        )

    def _shapes(self, count: int) -> tuple[MlShape, MlShape]:
        """Shapes of K^T and V of `count` pages."""
        shape, slots = self.shape, count * self.shape.page_size
        return MlShape(shape.head_dim, count, shape.page_size, slots), whole_pieces(self.b.chip, slots, shape.head_dim)

    def _bytes(self, count: int) -> int:
        return max(shape.n * ml_at(self.b.chip, 0, shape).n_stride for shape in self._shapes(count))

    def _matrix(self, place: int) -> Ml:
        side, _, count = self._queue[place]
        return ml_at(self.b.chip, self._buffers[place % len(self._buffers)], self._shapes(count)[side.are_values])

    def _load(self) -> None:
        if self._loaded == len(self._queue):
            return
        side, first, count = self._queue[self._loaded]
        matrix = self._matrix(self._loaded)
        self._loaded += 1
        for place, (addr, label) in enumerate(side.pages[first : first + count]):
            (self._load_v if side.are_values else self._load_k)(matrix, place, addr, label)

    def _load_k(self, matrix: Ml, place: int, addr: int, label: str | None) -> None:
        """Loads a page into its piece of K^T."""
        turn, lane = divmod(place, self.b.chip.num_lanes)
        shape = (self.shape.head_dim, 1, 1, self.shape.page_size)
        near = Tl(matrix.addr + lane * self.b.chip.lmem_bytes + turn * matrix.c_stride, shape, matrix.tl.stride, BF16)
        self.b.tdma_g2l_tensor_copy(tg(addr, shape, BF16, base_reg=self._base_reg, label=label), near)

    def _load_v(self, matrix: Ml, place: int, addr: int, label: str | None) -> None:
        """Loads a page into its rows of V."""
        size, dim = self.shape.page_size, self.shape.head_dim
        part = MlShape(size, matrix.shape.c, matrix.shape.w, dim)
        near = ml_at(self.b.chip, matrix.addr + place * size * matrix.n_stride, part)
        self.b.tdma_g2l_matrix_copy(mg(addr, size, dim, BF16, base_reg=self._base_reg, label=label), near)

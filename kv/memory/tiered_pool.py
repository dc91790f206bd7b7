"""A pool whose pages are in tiers of memory. A step moves the pages that it reads to the device, the first tier, and
others move down to make room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kv.arrays import FloatArray, IntArray
from kv.errors import KVError
from kv.memory.geometry import Geometry
from kv.memory.pool import FLOAT32
from kv.memory.tiers import Replacement, Tier, TieredPages
from kv.pages.allocator import NULL_PAGE
from kv.pages.block_manager import Copies


class TieredPool:
    """Replaces a PagePool. The unit that moves is a piece: the keys and values of one page in one layer and KV head,
    since each head chooses its own pages.

    A step that reads more than the first tier holds, as a dense one may, moves pieces through it in turn.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_pages: int,
        tiers: Sequence[Tier],
        dtype: np.dtype[Any] = FLOAT32,
        replacement: Replacement = Replacement.LRU,
    ) -> None:
        g = geometry
        self.geometry, self.num_pages, self.dtype = geometry, num_pages, dtype
        self._shape = (2, g.page_size, g.head_dim)
        num_pieces = num_pages * g.num_layers * g.num_kv_heads
        capacity = sum(tier.capacity_pages for tier in tiers)
        if capacity < num_pieces:
            raise KVError(
                f"the tiers hold {capacity} pages of one head and layer, {num_pages} pages of {g.num_layers} layers "
                f"and {g.num_kv_heads} KV heads are {num_pieces}: enlarge a tier or ask for a smaller cache"
            )
        self.tiers = TieredPages(int(np.prod(self._shape)) * dtype.itemsize, tiers, replacement)
        self._at_once = tiers[0].capacity_pages

    @property
    def num_bytes(self) -> int:
        """Bytes of all pieces that were written, in all tiers."""
        return len(self.tiers) * self.tiers.page_bytes

    def write(self, layer: int, slots: IntArray, k: FloatArray, v: FloatArray) -> None:
        """As PagePool.write."""
        pages, offsets = np.divmod(slots, self.geometry.page_size)
        kv = np.stack([k, v], 2)  # [T, kv_heads, 2, head_dim]
        starts = np.flatnonzero(np.diff(pages, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(pages)], strict=True):
            for head in range(self.geometry.num_kv_heads):
                piece = self._piece(layer, head, int(pages[start]))
                piece[:, offsets[start:stop]] = kv[start:stop, head].swapaxes(0, 1)

    def read(
        self, layer: int, pages: IntArray, heads: IntArray | None = None, scratch: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """As PagePool.read, but always a copy."""
        heads = np.arange(self.geometry.num_kv_heads) if heads is None else heads
        ids = self._id(layer, heads[:, None], np.broadcast_to(pages, (len(heads), pages.shape[-1])))
        wanted = ids.ravel().tolist()
        out = np.zeros((len(wanted), *self._shape), np.float32)
        # a piece that is in no tier is padding, or not written yet
        stored = [place for place, piece in enumerate(wanted) if piece in self.tiers]
        for start in range(0, len(stored), self._at_once):
            places = stored[start : start + self._at_once]
            pieces = self.tiers.get([wanted[place] for place in places])
            out[places] = pieces.view(self.dtype).reshape(-1, *self._shape)
        k, v = np.moveaxis(out.reshape(*ids.shape, *self._shape), 2, 0)
        return k, v

    def read_keys(self, layer: int, pages: IntArray) -> FloatArray:
        """As PagePool.read_keys."""
        return self.read(layer, pages)[0]

    def read_slots(self, layer: int, slots: IntArray, heads: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
        """As PagePool.read_slots, but whole pieces move."""
        heads = np.arange(self.geometry.num_kv_heads) if heads is None else heads
        pages, offsets = np.divmod(np.broadcast_to(slots, (len(heads), slots.shape[-1])), self.geometry.page_size)
        out = np.empty((2, *pages.shape, self.geometry.head_dim), np.float32)
        for row, head in enumerate(heads):
            own, place = np.unique(pages[row], return_inverse=True)
            for which, values in enumerate(self.read(layer, own, np.array([head]))):
                out[which, row] = values[0, place, offsets[row]]
        return out[0], out[1]

    def copy(self, copies: Copies) -> None:
        """As PagePool.copy."""
        for page, twin in copies:
            for layer in range(self.geometry.num_layers):
                for head in range(self.geometry.num_kv_heads):
                    held = self._piece(layer, head, page).copy()
                    self._piece(layer, head, twin)[...] = held

    def tier_of(self, layer: int, head: int, page: int) -> str:
        """Name of the tier that holds a page of one layer and KV head. Raises KVError if it was never written."""
        return self.tiers.tier_of(self._id(layer, head, page))

    def _id(self, layer: int, head: Any, page: Any) -> Any:
        """The id of a piece, or of arrays of pieces."""
        return (layer * self.geometry.num_kv_heads + head) * (self.num_pages + 1) + page

    def _piece(self, layer: int, head: int, page: int) -> np.ndarray:
        """Moves a piece to the first tier. -> its keys and values there, [2, page_size, head_dim], which may be changed
        in place until the next call."""
        assert page != NULL_PAGE
        piece = self._id(layer, head, page)
        if piece not in self.tiers:
            self.tiers.put(piece, np.zeros(self.tiers.page_bytes, np.uint8))
        return self.tiers.raised(piece).view(self.dtype).reshape(self._shape)

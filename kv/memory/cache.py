"""The paged cache of many sequences: the block tables of page ids (BlockManager) with the arrays of the pages."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kv.arrays import FloatArray, IntArray
from kv.errors import KVError
from kv.memory.geometry import Geometry
from kv.memory.pool import DTYPES, FLOAT32, PagePool
from kv.memory.tiered_pool import TieredPool
from kv.memory.tiers import Moves, Replacement, Tier
from kv.pages.block_manager import BlockManager


@dataclass(frozen=True)
class CacheSize:
    """Sizes of a cache in bytes: the whole pool, and the pages that sequences use, shared ones counted once."""

    pool_bytes: int
    used_bytes: int
    wasted_bytes: int
    """The part of used_bytes in unused slots of last pages. A shared last page counts once for each sequence."""


class PagedCache:
    """Pages for many sequences in one pool.

    >>> cache = PagedCache(Geometry(num_layers=2, num_q_heads=4, num_kv_heads=2, head_dim=8), num_pages=64)
    >>> cache.allocate("chat", tokens=range(20))  # returns how many of them were found in the cache
    0
    >>> cache
    <PagedCache of float32: 2 of 64 pages of 16 tokens used, sequences: 1>
    """

    def __init__(
        self,
        geometry: Geometry,
        num_pages: int,
        dtype: np.dtype[Any] = FLOAT32,
        *,
        watermark_pages: int = 0,
        tiers: Sequence[Tier] = (),
        replacement: Replacement = Replacement.LRU,
    ) -> None:
        """A cache of `num_pages` pages. `dtype`: of the stored elements, FLOAT32 or BF16. `watermark_pages`: pages that
        stay free when a sequence is admitted. `tiers`: memories for the pages, from fast to slow, whose capacities are
        in pages of one layer and KV head; without them all pages are on the device. Raises KVError for impossible
        values."""
        dtype = np.dtype(dtype)
        if dtype not in DTYPES:
            names = " or ".join(known.name for known in DTYPES)
            raise KVError(f"a cache cannot store elements of {dtype.name}: choose {names}")
        self.geometry = geometry
        self.manager = BlockManager(num_pages, geometry.page_size, watermark_pages)
        self.pool: PagePool | TieredPool = (
            TieredPool(geometry, num_pages, tiers, dtype, replacement)
            if tiers
            else PagePool(geometry, num_pages, dtype)
        )

    def __repr__(self) -> str:
        return f"<PagedCache of {self.pool.dtype.name}: {self.manager.summary}>"

    def allocate(self, seq: Hashable, tokens: Sequence[int] = (), salt: str = "") -> int:
        """Admits a sequence with slots for `tokens`. -> how many of them are in the cache already. Raises KVError if it
        does not fit."""
        return self.manager.allocate(seq, tokens, salt).num_cached

    def append(self, seq: Hashable, num_tokens: int) -> None:
        """Adds slots for `num_tokens` more positions, and copies a last page that is shared."""
        self.pool.copy(self.manager.append(seq, num_tokens))

    def publish(self, seq: Hashable, tokens: Sequence[int]) -> None:
        """Allows others to share the full pages of `tokens`, the sequence's first tokens, which every layer must have
        stored."""
        self.manager.publish(seq, tokens)

    def fork(self, parent: Hashable, child: Hashable) -> None:
        """Adds a second sequence with the same content. Both share every page until one of them writes to it."""
        self.manager.fork(parent, child)

    def truncate(self, seq: Hashable, length: int) -> None:
        """Removes the positions from `length` on."""
        self.manager.truncate(seq, length)

    def free(self, seq: Hashable) -> None:
        """Removes a sequence."""
        self.manager.free(seq)

    def write(self, seq: Hashable, layer: int, start: int, k: FloatArray, v: FloatArray) -> None:
        """Stores keys and values, float32 [T, kv_heads, head_dim], of one layer at the positions from `start` on, which
        must have slots."""
        table = self.manager.tables[seq]
        stop = start + len(k)
        assert stop <= table.length
        self.pool.write(layer, table.slots(start, stop), k, v)

    def read(self, seq: Hashable, layer: int, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
        """Keys and values of positions start to stop - 1 as float32 [kv_heads, stop - start, head_dim]; views if the
        pages are consecutive."""
        g = self.geometry
        first = start // g.page_size
        k, v = self.pool.read(layer, self._pages(seq, first, stop))
        window = slice(start - first * g.page_size, stop - first * g.page_size)
        shape = (g.num_kv_heads, -1, g.head_dim)
        return k.reshape(shape)[:, window], v.reshape(shape)[:, window]

    def read_keys(self, seq: Hashable, layer: int, stop: int) -> FloatArray:
        """Keys of the first `stop` positions as float32 [kv_heads, stop, head_dim]; a view if the pages are
        consecutive."""
        g = self.geometry
        return self.pool.read_keys(layer, self._pages(seq, 0, stop)).reshape(g.num_kv_heads, -1, g.head_dim)[:, :stop]

    @property
    def moves(self) -> dict[str, Moves]:
        """The pages that entered each tier from another one so far, by the tier's name; empty without tiers."""
        return self.pool.tiers.moves if isinstance(self.pool, TieredPool) else {}

    def size(self) -> CacheSize:
        """The memory that the cache takes."""
        page_bytes = self.geometry.page_bytes(self.pool.dtype.itemsize)
        wasted_slots = sum(table.wasted_slots for table in self.manager.tables.values())
        return CacheSize(
            pool_bytes=self.pool.num_bytes,
            used_bytes=self.manager.allocator.num_used * page_bytes,
            wasted_bytes=wasted_slots * (page_bytes // self.geometry.page_size),
        )

    def _pages(self, seq: Hashable, first: int, stop: int) -> IntArray:
        """The pages of the blocks from `first` on that hold positions before `stop`."""
        return np.asarray(self.manager.tables[seq].pages[first : self.geometry.pages(stop)], np.int64)

"""The paged cache of many sequences: block tables over ids (BlockManager) and the arrays behind them (PagePool), kept
in step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kv.errors import KVError
from kv.memory.geometry import Geometry
from kv.memory.pool import FLOAT32, Layout, PagePool, Storage
from kv.memory.tiered_pool import TieredPool
from kv.memory.tiers import Moves, Replacement, Tier
from kv.pages.block_manager import BlockManager, Copies
from kv.pages.scheduler import Step

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class CacheSize:
    """What a cache holds, in bytes: the whole pool, and the part that sequences use (shared pages once)."""

    pool_bytes: int
    used_bytes: int
    wasted_bytes: int
    """Of used_bytes, slots of last pages that hold nothing; a last page that is shared counts once for each
    sequence."""


class PagedCache:
    """Pages for many sequences in one pool, with another in host memory for those that are swapped out."""

    def __init__(
        self,
        geometry: Geometry,
        num_pages: int,
        storage: Storage = FLOAT32,
        layout: Layout = Layout.HEAD_MAJOR,
        num_host_pages: int = 0,
        watermark_pages: int = 0,
        tiers: Sequence[Tier] = (),
        replacement: Replacement = Replacement.LRU,
    ) -> None:
        """`tiers`: where pages live, from fast to slow; without them all are on the device. A tier's capacity is in
        pages of one layer and KV head. Tiers offload by themselves, so swapping to num_host_pages and the token-major
        layout are for a cache without them."""
        if tiers and (num_host_pages or layout is not Layout.HEAD_MAJOR):
            raise KVError("a cache in tiers is head-major and needs no host pages: its tiers are its host memory")
        self.geometry = geometry
        self.manager = BlockManager(num_pages, geometry.page_size, num_host_pages, watermark_pages)
        self.pool: PagePool | TieredPool = (
            TieredPool(geometry, num_pages, tiers, storage, replacement)
            if tiers
            else PagePool(geometry, num_pages, storage, layout)
        )
        self.host_pool = PagePool(geometry, num_host_pages, storage, layout) if num_host_pages else None

    def allocate(self, seq: Hashable, tokens: Sequence[int] = (), salt: str = "") -> int:
        """Admit a sequence with slots for `tokens`; returns how many of them are in the cache already. KVError if it
        does not fit."""
        return self.manager.allocate(seq, tokens, salt).num_cached

    def append(self, seq: Hashable, num_tokens: int) -> None:
        """Give slots to num_tokens more positions, copying a shared last page."""
        self.pool.copy(self.manager.append(seq, num_tokens))

    def publish(self, seq: Hashable, tokens: Sequence[int]) -> None:
        """Let others share the full pages of `tokens`, the sequence's first tokens, now that every layer has stored
        them."""
        self.manager.publish(seq, tokens)

    def fork(self, parent: Hashable, child: Hashable) -> None:
        """A second sequence with the same content, sharing every page until one of them writes."""
        self.manager.fork(parent, child)

    def truncate(self, seq: Hashable, length: int) -> None:
        """Forget the positions from `length` on."""
        pages = self._pages(seq)
        self.manager.truncate(seq, length)
        self._close_free(pages)

    def free(self, seq: Hashable) -> None:
        """Forget a sequence."""
        swapped = self.manager.swapped.get(seq)
        pages = [] if swapped else self._pages(seq)
        self.manager.free(seq)
        if swapped and self.host_pool:
            self.host_pool.close(np.asarray(swapped.pages, np.int64))
        self._close_free(pages)

    def swap_out(self, seq: Hashable) -> None:
        """Move a sequence's pages to host memory."""
        self._to_host(self.manager.swap_out(seq))

    def swap_in(self, seq: Hashable) -> None:
        """Bring a sequence's pages back, bit for bit."""
        self._from_host(self.manager.swap_in(seq))

    def apply(self, step: Step) -> None:
        """Do the copies that a scheduling step decided, before its sequences are computed."""
        self._to_host(step.swapped_out)
        self._from_host(step.swapped_in)
        self.pool.copy(step.copies)

    def write(self, seq: Hashable, layer: int, start: int, k: FloatArray, v: FloatArray) -> None:
        """Store the keys and values, float32 [T, kv_heads, head_dim], of positions start.. of one layer; their slots
        must exist."""
        table = self.manager.tables[seq]
        stop = start + len(k)
        assert stop <= table.length
        self.pool.write(layer, table.slots(start, stop), k, v)

    def read(self, seq: Hashable, layer: int, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
        """Keys and values of positions start..stop as float32 [kv_heads, stop - start, head_dim]; views where the pages
        are consecutive."""
        size = self.geometry.page_size
        first = start // size
        pages = np.asarray(self.manager.tables[seq].pages[first : -(-stop // size)], np.int64)
        k, v = self.pool.read(layer, pages)
        heads, dim = self.geometry.num_kv_heads, self.geometry.head_dim
        window = slice(start - first * size, stop - first * size)
        return k.reshape(heads, -1, dim)[:, window], v.reshape(heads, -1, dim)[:, window]

    def read_keys(self, seq: Hashable, layer: int, stop: int) -> FloatArray:
        """Keys of the first `stop` positions as float32 [kv_heads, stop, head_dim]; a view where the pages are
        consecutive."""
        pages = np.asarray(self.manager.tables[seq].pages[: self.geometry.pages(stop)], np.int64)
        return self.pool.read_keys(layer, pages).reshape(self.geometry.num_kv_heads, -1, self.geometry.head_dim)[
            :, :stop
        ]

    @property
    def moves(self) -> dict[str, Moves]:
        """What entered each tier from another one so far; empty without tiers."""
        return self.pool.tiers.moves if isinstance(self.pool, TieredPool) else {}

    def size(self) -> CacheSize:
        """Memory, to the byte."""
        pool_bytes = self.pool.num_bytes
        page_bytes = self.geometry.page_bytes(self.pool.storage.dtype.itemsize)
        wasted = sum(table.wasted_slots for table in self.manager.tables.values())
        scales = 8 * self.geometry.num_layers * self.geometry.num_kv_heads if self.pool.storage.scaled else 0
        return CacheSize(
            pool_bytes,
            self.manager.device.num_used * (page_bytes + scales),
            wasted * (page_bytes // self.geometry.page_size),
        )

    def _to_host(self, copies: Copies) -> None:
        if self.host_pool and isinstance(self.pool, PagePool):
            self.pool.copy(copies, self.host_pool)
            self._close_free([page for page, _ in copies])

    def _from_host(self, copies: Copies) -> None:
        if self.host_pool and isinstance(self.pool, PagePool):
            self.host_pool.copy(copies, self.pool)
            self.host_pool.close(np.asarray([page for page, _ in copies], np.int64))

    def _close_free(self, pages: Sequence[int]) -> None:
        ref_count = self.manager.device.ref_count
        self.pool.close(np.asarray([page for page in pages if not ref_count(page)], np.int64))

    def _pages(self, seq: Hashable) -> list[int]:
        if seq not in self.manager.tables:
            raise KVError(f"sequence {seq!r} has no pages on the device: allocate it, fork it or swap it in first")
        return list(self.manager.tables[seq].pages)

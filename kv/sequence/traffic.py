"""The traffic of one decode step of one layer: bytes, descriptors, padding. It is counted alike for every policy."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields

import numpy as np

from kv.arrays import IntArray
from kv.memory.cache import PagedCache
from kv.pages.allocator import NULL_PAGE

INDEX_BYTES = 4
"""Bytes of one entry of a page table."""


@dataclass(frozen=True)
class StepTraffic:
    """The traffic of one layer in one step, keys and values together.

    metadata_bytes  bytes that are read in order to choose: boxes, codes, centroids, or the keys themselves
    page_bytes      bytes of the keys and values that are attended to
    index_bytes     bytes of the table
    padding_bytes   bytes that are moved only because the table has a fixed shape: padding entries, and slots after the
                    end of the sequence
    descriptors     number of transfers, each of contiguous memory. For each head, neighbouring units take one for keys
                    and one for values
    longest_run     bytes of the longest transfer
    """

    metadata_bytes: int
    page_bytes: int
    index_bytes: int
    padding_bytes: int
    descriptors: int
    longest_run: int

    @property
    def total_bytes(self) -> int:
        return self.metadata_bytes + self.page_bytes + self.index_bytes + self.padding_bytes

    def __add__(self, other: StepTraffic) -> StepTraffic:
        """The traffic of both together."""
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return StepTraffic(**(sums | {"longest_run": max(self.longest_run, other.longest_run)}))


def table_traffic(
    cache: PagedCache,
    slots: IntArray,
    *,
    piece_tokens: int,
    kept_tokens: int,
    entries: int,
    metadata_bytes: int,
) -> StepTraffic:
    """The traffic of gathering a table of `entries` units. `slots`, int64 [rows, pieces], has the first slot of each
    piece; padding is in the null page. If there is one row, every KV head reads it."""
    g = cache.geometry
    sharers = g.num_kv_heads if len(slots) == 1 else 1
    row_bytes = g.head_dim * cache.pool.dtype.itemsize
    token_bytes = 2 * row_bytes
    valid = slots // g.page_size != NULL_PAGE
    issued, kept = valid.size * piece_tokens * sharers, kept_tokens * sharers
    starts = valid.copy()
    starts[:, 1:] &= ~(valid[:, :-1] & (np.diff(slots, axis=1) == piece_tokens))
    pieces_of_run = np.diff(np.append(np.flatnonzero(starts.ravel()[valid.ravel()]), int(valid.sum())))
    return StepTraffic(
        metadata_bytes=metadata_bytes,
        page_bytes=kept * token_bytes,
        index_bytes=INDEX_BYTES * entries,
        padding_bytes=(issued - kept) * token_bytes,
        descriptors=2 * int(starts.sum()) * sharers,
        longest_run=int(pieces_of_run.max(initial=0)) * piece_tokens * row_bytes,
    )


def dense_traffic(cache: PagedCache, seq: Hashable, length: int) -> StepTraffic:
    """The traffic of attending to everything through the block table."""
    size = cache.geometry.page_size
    pages = np.asarray(cache.manager.tables[seq].pages[: -(-length // size)], np.int64)[None]
    return table_traffic(
        cache, pages * size, piece_tokens=size, kept_tokens=length, entries=pages.size, metadata_bytes=0
    )

"""What one decode step of one layer moves: bytes, runs, descriptors, padding. The same rules for every policy."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from kv.memory.cache import PagedCache
from kv.memory.pool import Layout
from kv.selection import UnitTable

INDEX_BYTES = 4
"""Of one entry of a page table."""


@dataclass(frozen=True)
class StepTraffic:
    """Of one layer and step, keys and values together.

    metadata_bytes  read to choose: boxes, codes, centroids, or the keys themselves
    page_bytes      of the keys and values attended to, scales included
    index_bytes     of the table
    padding_bytes   moved only because the table has a fixed shape: padding entries, and slots past the end of the
                    sequence
    runs            pieces of contiguous memory
    descriptors     strided transfers: one for keys and one for values of each stretch of neighbouring units, per head
                    unless all share it
    longest_run     bytes of the longest run
    """

    metadata_bytes: int
    page_bytes: int
    index_bytes: int
    padding_bytes: int
    runs: int
    descriptors: int
    longest_run: int

    @property
    def total_bytes(self) -> int:
        return self.metadata_bytes + self.page_bytes + self.index_bytes + self.padding_bytes

    def __add__(self, other: StepTraffic) -> StepTraffic:
        """Both, one after the other."""
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return StepTraffic(**(sums | {"longest_run": max(self.longest_run, other.longest_run)}))


def table_traffic(
    cache: PagedCache,
    slots: NDArray[np.int64],
    table: UnitTable,
    unit_tokens: int,
    kept_tokens: int,
    metadata_bytes: int,
) -> StepTraffic:
    """Of gathering the units of a table. `slots` is the first slot of each unit; rows of 1 are read by every KV
    head."""
    g, storage = cache.geometry, cache.pool.storage
    sharers = g.num_kv_heads if len(slots) == 1 else 1
    token_bytes = 2 * g.head_dim * storage.dtype.itemsize
    valid = table.valid
    scales = 8 * int(table.count.sum()) * sharers if storage.scaled else 0
    issued = valid.size * unit_tokens * sharers
    kept = kept_tokens * sharers
    stretches = valid.copy()
    stretches[:, 1:] &= ~(valid[:, :-1] & (np.diff(slots, axis=1) == unit_tokens))
    num_stretches = int(stretches.sum())
    lengths = np.diff(np.append(np.flatnonzero(stretches.ravel()[valid.ravel()]), int(valid.sum()))) * unit_tokens
    row_bytes = g.head_dim * storage.dtype.itemsize
    longest = int(lengths.max(initial=0))
    if cache.pool.layout is Layout.HEAD_MAJOR:
        descriptors, runs, longest_run = num_stretches * sharers, num_stretches * sharers, longest * row_bytes
    elif len(slots) == 1:
        descriptors, runs, longest_run = num_stretches, num_stretches, longest * row_bytes * g.num_kv_heads
    else:
        descriptors, runs, longest_run = num_stretches, int(valid.sum()) * unit_tokens, row_bytes
    return StepTraffic(
        metadata_bytes=metadata_bytes,
        page_bytes=kept * token_bytes + scales,
        index_bytes=INDEX_BYTES * table.units.size,
        padding_bytes=(issued - kept) * token_bytes,
        runs=2 * runs,
        descriptors=2 * descriptors,
        longest_run=longest_run,
    )


def dense_traffic(cache: PagedCache, seq: Hashable, length: int) -> StepTraffic:
    """Of attending to everything through the block table."""
    size = cache.geometry.page_size
    pages = np.asarray(cache.manager.tables[seq].pages[: -(-length // size)], np.int64)[None]
    table = UnitTable(np.arange(pages.shape[1])[None], np.array([pages.shape[1]]))
    return table_traffic(cache, pages * size, table, size, length, 0)

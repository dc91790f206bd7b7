"""What one decode step of one layer moves: bytes, descriptors, padding. The same rules for every policy."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields

import numpy as np

from kv.arrays import IntArray
from kv.memory.cache import PagedCache
from kv.policies.table import UnitTable

INDEX_BYTES = 4
"""Of one entry of a page table."""


@dataclass(frozen=True)
class StepTraffic:
    """Of one layer and step, keys and values together.

    metadata_bytes  read to choose: boxes, codes, centroids, or the keys themselves
    page_bytes      of the keys and values attended to
    index_bytes     of the table
    padding_bytes   moved only because the table has a fixed shape: padding entries, and slots past the end of the
                    sequence
    descriptors     transfers, each of one run of memory: one for keys and one for values of each stretch of
                    neighbouring units, per head
    longest_run     bytes of the longest run
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
        """Both, one after the other."""
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return StepTraffic(**(sums | {"longest_run": max(self.longest_run, other.longest_run)}))


def table_traffic(
    cache: PagedCache,
    slots: IntArray,
    table: UnitTable,
    *,
    unit_tokens: int,
    kept_tokens: int,
    metadata_bytes: int,
) -> StepTraffic:
    """Of gathering the units of a table. `slots` is the first slot of each unit; rows of 1 are read by every KV
    head."""
    g = cache.geometry
    sharers = g.num_kv_heads if len(slots) == 1 else 1
    row_bytes = g.head_dim * cache.pool.dtype.itemsize
    token_bytes = 2 * row_bytes
    valid = table.valid
    issued, kept = valid.size * unit_tokens * sharers, kept_tokens * sharers
    starts = valid.copy()
    starts[:, 1:] &= ~(valid[:, :-1] & (np.diff(slots, axis=1) == unit_tokens))
    units_of_run = np.diff(np.append(np.flatnonzero(starts.ravel()[valid.ravel()]), int(valid.sum())))
    return StepTraffic(
        metadata_bytes=metadata_bytes,
        page_bytes=kept * token_bytes,
        index_bytes=INDEX_BYTES * table.units.size,
        padding_bytes=(issued - kept) * token_bytes,
        descriptors=2 * int(starts.sum()) * sharers,
        longest_run=int(units_of_run.max(initial=0)) * unit_tokens * row_bytes,
    )


def dense_traffic(cache: PagedCache, seq: Hashable, length: int) -> StepTraffic:
    """Of attending to everything through the block table."""
    size = cache.geometry.page_size
    pages = np.asarray(cache.manager.tables[seq].pages[: -(-length // size)], np.int64)[None]
    table = UnitTable(np.arange(pages.shape[1])[None], np.array([pages.shape[1]]))
    return table_traffic(cache, pages * size, table, unit_tokens=size, kept_tokens=length, metadata_bytes=0)

"""Counts the pages that a step would move to a device that cannot hold the whole cache. The least recently used pages
leave first."""

from __future__ import annotations

import numpy as np

from kv.arrays import BoolArray
from kv.errors import KVError
from kv.policies.table import best


class Residency:
    """Which pages of one layer are on the device, if it has room for `capacity` of them for each KV head.

    The counts are those of a TieredPool, but no pages are held. Pages are written on the device, so a new page is
    there.
    """

    def __init__(self, num_kv_heads: int, num_pages: int, capacity: int) -> None:
        """The state after a prompt of num_pages pages, which was stored from its start to its end: the last pages are
        on the device. Raises KVError for a capacity below 1."""
        if capacity < 1:
            raise KVError(f"a device has room for {capacity} pages of a head: it must be at least 1")
        self._capacity = capacity
        self._clock = num_pages
        self._used_at = np.broadcast_to(np.arange(num_pages, dtype=np.float32), (num_kv_heads, num_pages)).copy()

    def touch(self, pages: BoolArray) -> int:
        """A step reads these pages, bool [kv_heads, P], where P grows with the sequence. -> how many have to be moved
        to the device."""
        fresh = pages.shape[1] - self._used_at.shape[1]
        if fresh > 0:
            self._used_at = np.pad(self._used_at, ((0, 0), (0, fresh)), constant_values=self._clock)
        missing = pages & ~best(self._used_at, self._capacity)
        self._clock += 1
        self._used_at[pages] = self._clock
        return int(missing.sum())

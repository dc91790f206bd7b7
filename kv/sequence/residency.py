"""What a step would bring to a device that cannot hold the whole cache: least recently used pages leave first."""

from __future__ import annotations

import numpy as np

from kv.arrays import BoolArray
from kv.errors import KVError
from kv.policies.table import best


class Residency:
    """Which pages of one layer are on the device, when it has room for `capacity` of them in each KV head.

    Counts as TieredPool moves, without holding anything. Pages are written on the device, so a new one is there.
    """

    def __init__(self, num_kv_heads: int, num_pages: int, capacity: int) -> None:
        """After a prompt of num_pages, stored from its start to its end: the last ones are on the device."""
        if capacity < 1:
            raise KVError(f"a device for {capacity} pages of a head: it must hold at least 1")
        self._capacity = capacity
        self._clock = num_pages
        self._used_at = np.broadcast_to(np.arange(num_pages, dtype=np.float32), (num_kv_heads, num_pages)).copy()

    def touch(self, pages: BoolArray) -> int:
        """A step reads these pages, bool [kv_heads, P]; returns how many it has to bring. P grows with the sequence."""
        fresh = pages.shape[1] - self._used_at.shape[1]
        if fresh > 0:
            self._used_at = np.pad(self._used_at, ((0, 0), (0, fresh)), constant_values=self._clock)
        missing = pages & ~best(self._used_at, self._capacity)
        self._clock += 1
        self._used_at[pages] = self._clock
        return int(missing.sum())

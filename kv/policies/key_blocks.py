"""Keys as they come, cut into blocks of equal length."""

from __future__ import annotations

import numpy as np

from kv.arrays import FloatArray
from kv.memory.geometry import Geometry
from kv.policies.base import ReadKeys


class KeyBlocks:
    """Blocks of `size` positions; keeps a copy of the keys of the block that is not full yet."""

    def __init__(self, geometry: Geometry, size: int) -> None:
        self.size = size
        self._tail = np.zeros((0, geometry.num_kv_heads, geometry.head_dim), np.float32)

    def add(self, keys: FloatArray) -> FloatArray:
        """The blocks that keys [T, kv_heads, head_dim] fill: [kv_heads, blocks, size, head_dim]."""
        keys = np.concatenate([self._tail, keys])
        full = len(keys) // self.size * self.size
        self._tail = keys[full:].copy()
        return keys[:full].reshape(-1, self.size, *keys.shape[1:]).transpose(2, 0, 1, 3)

    def truncate(self, before: int, length: int, read_keys: ReadKeys) -> None:
        """Go back from `before` positions to `length`."""
        first = length // self.size * self.size
        if first < before // self.size * self.size:
            self._tail = read_keys()[:, first:length].swapaxes(0, 1).copy()
        else:
            self._tail = self._tail[: length - first]

"""The common part of policies that evict: tokens that were not kept are lost."""

from __future__ import annotations

import numpy as np

from kv.arrays import BoolArray, FloatArray
from kv.policies.base import LayerContext, ReadKeys, State, grown


class EvictingState(State):
    """Ranks the tokens that were not evicted. `rows` is kv_heads, or 1 if all heads of a layer evict the same
    tokens."""

    def __init__(self, context: LayerContext, rows: int) -> None:
        super().__init__(context)
        self._dead = np.zeros((rows, 0), np.bool_)

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        self._dead = grown(self._dead, self.length, axis=1)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        ranks = self.ranks()
        ranks[self._dead[:, : self.length]] = -np.inf
        return ranks

    def ranks(self) -> FloatArray:
        """Float32 [rows, length], which the caller may change. A token with +inf must be kept. Entries of evicted
        tokens are ignored."""
        raise NotImplementedError

    def chosen(self, kept: BoolArray) -> None:
        self._dead[:, : self.length] = ~kept

    @property
    def pruned(self) -> bool:
        return bool(self._dead[:, : self.length].any())

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        super().truncate(length, read_keys)
        self._dead[:, length:] = False

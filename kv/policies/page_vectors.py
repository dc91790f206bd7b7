"""Two vectors for each page, by which all pages are scored in one product. Quest and ArkVale use them."""

from __future__ import annotations

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, ReadKeys, State
from kv.policies.vector_table import Stored, VectorTable


class PageVectors(State):
    """A state with the vectors of pages, [kv_heads, 2, head_dim, pages]."""

    def __init__(self, context: LayerContext, stored: Stored = Stored.AS_KEYS) -> None:
        super().__init__(context)
        self._table = VectorTable(context.geometry.num_kv_heads, 2 * context.geometry.head_dim, stored)

    @property
    def num_described(self) -> int:
        """Number of first pages that have vectors."""
        return self.num_pages

    @property
    def vectors(self) -> FloatArray:
        """The vectors, [kv_heads, 2, head_dim, num_described]."""
        return self._table.vectors.reshape(self.geometry.num_kv_heads, 2, self.geometry.head_dim, -1)

    def describe(self, first: int, fresh: FloatArray) -> None:
        """Stores the vectors `fresh`, float32 [kv_heads, 2, head_dim, n], of the pages from `first` on."""
        self._table.put(first, fresh.reshape(len(fresh), -1, fresh.shape[-1]))

    def weigh(self, by_first: FloatArray, by_second: FloatArray) -> FloatArray:
        """by_first . first vector + by_second . second vector of each page, float32 [q_heads, pages]. Both arguments:
        float32 [q_heads, head_dim]."""
        both = np.concatenate([by_first, by_second], 1)
        both = both.reshape(self.geometry.num_kv_heads, self.geometry.group, -1)
        return self._table.dot(self._table.scaled(both)).reshape(len(by_first), -1)

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        super().truncate(length, read_keys)
        self._table.cut(self.num_described)

    @property
    def score_bytes(self) -> int:
        return self.metadata_bytes

    @property
    def metadata_bytes(self) -> int:
        return self._table.num_bytes(self.context.element_bytes)

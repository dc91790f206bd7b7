"""Two vectors for each page, by which all pages are scored in one product. Quest and ArkVale use them."""

from __future__ import annotations

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, State, grown


class PageVectors(State):
    """A state with the vectors of pages, float32 [kv_heads, 2, head_dim, pages].

    Pages are the last axis, since BLAS multiplies a vector by such a matrix fastest."""

    def __init__(self, context: LayerContext) -> None:
        super().__init__(context)
        g = context.geometry
        self._vectors = np.zeros((g.num_kv_heads, 2, g.head_dim, 0), np.float32)

    @property
    def num_described(self) -> int:
        """Number of first pages that have vectors."""
        return self.num_pages

    @property
    def vectors(self) -> FloatArray:
        """The vectors, float32 [kv_heads, 2, head_dim, num_described]."""
        return self._vectors[..., : self.num_described]

    def describe(self, first: int, fresh: FloatArray) -> None:
        """Stores the vectors `fresh`, float32 [kv_heads, 2, head_dim, n], of the pages from `first` on."""
        self._vectors = grown(self._vectors, first + fresh.shape[-1], axis=3)
        self._vectors[..., first : first + fresh.shape[-1]] = fresh

    def weigh(self, by_first: FloatArray, by_second: FloatArray) -> FloatArray:
        """by_first . first vector + by_second . second vector of each page, float32 [q_heads, pages]. Both arguments:
        float32 [q_heads, head_dim]."""
        heads, pages = self.geometry.num_kv_heads, self.num_described
        both = np.concatenate([by_first, by_second], 1).reshape(heads, self.geometry.group, -1)
        rows = self._vectors.reshape(heads, both.shape[-1], -1)[..., :pages]
        return (both @ rows).reshape(len(by_first), pages)

    @property
    def score_bytes(self) -> int:
        return self.metadata_bytes

    @property
    def metadata_bytes(self) -> int:
        g = self.geometry
        return 2 * g.num_kv_heads * g.head_dim * self.num_described * self.context.element_bytes

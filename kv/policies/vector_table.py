"""Vectors that stand for pages or parts of them, scored all at once; as float32, or as int8 with a scale a channel."""

from __future__ import annotations

from enum import Enum

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import grown

LEAST_SCALE = np.float32(1e-6)
"""Of a channel in which every vector is zero: some of Gemma's keys have such."""
ENOUGH = 16
"""Vectors from which scales are taken at the end of a prompt. After a shorter one they are taken at the first step that
prunes."""


class Stored(Enum):
    """What an element is kept as."""

    AS_KEYS = "as_keys"
    INT8 = "int8"

    def __repr__(self) -> str:
        return f"Stored.{self.name}"


class VectorTable:
    """Of each KV head `count` vectors of `channels` elements, [kv_heads, channels, count].

    The count is the innermost axis, which makes a score a sum of long rows: the order in which BLAS multiplies by one
    vector fastest. With Stored.INT8, `settle` fixes a scale for each head and channel, by the largest element so far;
    from then on vectors are integers of -127 to 127, and what is larger later is clipped."""

    def __init__(self, kv_heads: int, channels: int, stored: Stored = Stored.AS_KEYS) -> None:
        self.count = 0
        self._stored = stored
        self._scales: FloatArray | None = None  # [kv_heads, channels]
        self._vectors: np.ndarray = np.zeros((kv_heads, channels, 0), np.float32)

    @property
    def vectors(self) -> np.ndarray:
        """[kv_heads, channels, count], a view: float32, or int8 once settled."""
        return self._vectors[..., : self.count]

    def put(self, first: int, fresh: FloatArray) -> None:
        """Vectors [kv_heads, channels, n] in the places first.., which end the table."""
        self.count = first + fresh.shape[-1]
        self._vectors = grown(self._vectors, self.count, axis=2)
        self._vectors[..., first : self.count] = fresh if self._scales is None else self._coded(fresh)

    def cut(self, count: int) -> None:
        """Forget the vectors from `count` on."""
        self.count = min(self.count, count)

    def settle(self, least: int = 1) -> None:
        """Fix the scales and go over to int8, if that is how vectors are stored and there are at least so many."""
        if self._stored is Stored.AS_KEYS or self._scales is not None or self.count < least:
            return
        self._scales = np.maximum(np.abs(self.vectors).max(2) / np.float32(127), LEAST_SCALE)
        self._vectors = self._coded(self.vectors)

    def _coded(self, vectors: FloatArray) -> np.ndarray:
        assert self._scales is not None
        return np.rint(vectors / self._scales[..., None]).clip(-127, 127).astype(np.int8)

    def scaled(self, q: FloatArray) -> FloatArray:
        """Queries [kv_heads, group, channels] times the scales, which makes `dot` of them a score."""
        return q if self._scales is None else q * self._scales[:, None]

    def dot(self, scaled: FloatArray) -> FloatArray:
        """Scores [kv_heads, group, count] of scaled queries [kv_heads, group, channels]."""
        product: FloatArray = scaled @ self.vectors.astype(np.float32, copy=False)
        return product

    def num_bytes(self, element_bytes: int) -> int:
        """Of the vectors and their scales, where an element of a key takes `element_bytes`."""
        if self._stored is Stored.INT8:
            return self.vectors.size + 4 * self._vectors.shape[0] * self._vectors.shape[1]
        return self.vectors.size * element_bytes

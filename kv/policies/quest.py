"""Quest: keeps the pages whose keys could match the query best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit
from kv.policies.page_vectors import PageVectors


class PageBoxes(PageVectors):
    """The box around the keys of each page: element-wise maximum and minimum, for each KV head.

    They are elements of stored keys, so the storage's format holds them exactly, and metadata takes 1 / page_size of
    the cache."""

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        size = self.geometry.page_size
        first = start // size
        cuts = np.arange(first, self.num_pages) * size - start
        cuts[0] = 0
        extremes = (np.maximum, np.minimum)
        fresh = np.stack([np.moveaxis(extreme.reduceat(keys, cuts, axis=0), 0, -1) for extreme in extremes], 1)
        if start % size:
            for side, extreme in enumerate(extremes):
                extreme(fresh[:, side, :, 0], self.vectors[:, side, :, first], out=fresh[:, side, :, 0])
        self.describe(first, fresh)

    @property
    def boxes(self) -> FloatArray:
        """Float32 [kv_heads, 2, head_dim, pages]: maxima, then minima."""
        return self.vectors

    def upper(self, q: FloatArray) -> FloatArray:
        """For each page, an upper bound of q.k for its keys: float32 [q_heads, pages], not divided by
        sqrt(head_dim)."""
        return self.weigh(np.maximum(q, 0), np.minimum(q, 0))


class QuestState(PageBoxes):
    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        return self.upper(q)


@dataclass(frozen=True)
class Quest(Policy):
    """Ranks pages by the largest q.k that their box allows (Tang et al., section 3): sum_i max(q_i max_i, q_i min_i),
    for each query head.

    After a rollback, boxes still contain the removed tokens. So the bound is less tight, but still a bound.
    The paper keeps the first two layers dense: PerLayer(Quest(), 2).
    """

    name: ClassVar[str] = "quest"
    paper: ClassVar[str] = "arXiv 2406.10774"
    unit: ClassVar[Unit] = Unit.PAGE

    def start(self, context: LayerContext) -> State:
        return QuestState(context)

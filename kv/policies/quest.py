"""Quest: the pages whose keys could match the query best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.policies.base import LayerContext, Policy, State, Unit, grown
from kv.selection import FloatArray


class PageBoxes(State):
    """The box around the keys of each page: element-wise maximum and minimum, per KV head.

    They are elements of the stored keys, so they are exact in the storage's own format: metadata is 1 / page_size of the cache.
    Pages are the innermost axis, which makes a score a sum of long rows: the order in which BLAS multiplies by one vector fastest.
    """

    def __init__(self, context: LayerContext) -> None:
        super().__init__(context)
        g = context.geometry
        self._boxes = np.zeros((g.num_kv_heads, 2, g.head_dim, 0), np.float32)  # [kv_heads, (max, min), head_dim, pages]

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        size = self.geometry.page_size
        first, last = start // size, self.num_pages
        self._boxes = grown(self._boxes, last, axis=3)
        cuts = np.arange(first, last) * size - start
        cuts[0] = 0
        for side, extreme in enumerate((np.maximum, np.minimum)):
            fresh = np.moveaxis(extreme.reduceat(keys, cuts, axis=0), 0, -1)  # [kv_heads, head_dim, pages]
            if start % size:
                extreme(fresh[..., 0], self._boxes[:, side, :, first], out=fresh[..., 0])
            self._boxes[:, side, :, first:last] = fresh

    @property
    def boxes(self) -> FloatArray:
        """Float32 [kv_heads, 2, head_dim, pages]: maxima, then minima."""
        return self._boxes[..., : self.num_pages]

    def upper(self, q: FloatArray) -> FloatArray:
        """Of each page, a bound that q.k of no key in it exceeds: float32 [q_heads, pages], not divided by sqrt(head_dim)."""
        return self._corner(np.maximum(q, 0), np.minimum(q, 0))

    def lower(self, q: FloatArray) -> FloatArray:
        """Of each page, a bound that q.k of no key in it falls below."""
        return self._corner(np.minimum(q, 0), np.maximum(q, 0))

    def _corner(self, with_max: FloatArray, with_min: FloatArray) -> FloatArray:
        heads, pages = self.geometry.num_kv_heads, self.num_pages
        both = np.concatenate([with_max, with_min], 1).reshape(heads, self.geometry.group, -1)
        rows = self._boxes.reshape(heads, both.shape[-1], -1)[..., :pages]
        return (both @ rows).reshape(len(with_max), pages)

    @property
    def score_bytes(self) -> int:
        return self.metadata_bytes

    @property
    def metadata_bytes(self) -> int:
        g = self.geometry
        return 2 * g.num_kv_heads * g.head_dim * self.num_pages * self.context.element_bytes


class QuestState(PageBoxes):
    def scores(self, q: FloatArray) -> FloatArray:
        return self.upper(q)


@dataclass(frozen=True)
class Quest(Policy):
    """Ranks pages by the largest q.k that their box allows (Tang et al., section 3): sum_i max(q_i max_i, q_i min_i), per query head.

    A rollback leaves the boxes of the tokens that are gone, which only loosens the bound.
    The paper keeps its first two layers dense: PerLayer(Quest(), 2).
    """

    name: ClassVar[str] = "quest"
    paper: ClassVar[str] = "arXiv 2406.10774"
    unit: ClassVar[Unit] = Unit.PAGE

    def start(self, context: LayerContext) -> State:
        return QuestState(context)

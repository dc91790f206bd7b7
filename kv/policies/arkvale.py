"""ArkVale: pages are described by a centre and a mean distance, and one choice serves a whole layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit
from kv.policies.page_vectors import PageVectors


class DigestState(PageVectors):
    """For each full page, the centre of its keys and their mean distance from it."""

    def __init__(self, context: LayerContext, policy: ArkVale) -> None:
        super().__init__(context)
        g = context.geometry
        self._policy = policy
        self._tail = np.zeros((0, g.num_kv_heads, g.head_dim), np.float32)  # keys of the page that is not full

    @property
    def num_described(self) -> int:
        return self.length // self.geometry.page_size

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        size = self.geometry.page_size
        first, last = start // size, self.num_described
        keys = np.concatenate([self._tail, keys])
        # [kv_heads, P, S, dim]
        pages = keys[: (last - first) * size].reshape(last - first, size, *keys.shape[1:]).transpose(2, 0, 1, 3)
        self._tail = keys[(last - first) * size :].copy()
        if last == first:
            return
        centre = (pages.max(2) + pages.min(2)) / 2
        self.describe(first, np.stack([centre, np.abs(pages - centre[:, :, None]).mean(2)], 1).swapaxes(2, 3))

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        budget_pages = self.geometry.pages(self.context.budget_tokens)
        window = min(self._policy.window, budget_pages)
        scores = np.full((1, self.num_pages), np.inf, np.float32)
        scores[0, : self.num_described] = self.weigh(q, np.abs(q)).sum(0)
        scores[0, : min(self._policy.sinks, budget_pages - window)] = np.inf
        scores[0, max(0, self.num_pages - window) :] = np.inf
        return scores

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        size = self.geometry.page_size
        if length // size < self.length // size:
            self._tail = read_keys()[:, length // size * size : length].swapaxes(0, 1).copy()
        else:
            self._tail = self._tail[: length % size]
        super().truncate(length, read_keys)


@dataclass(frozen=True)
class ArkVale(Policy):
    """Ranks pages by q.centre + |q|.mean distance, summed over all heads. That is closer to q.k than Quest's score, but
    not a bound.

    sinks, window   the first and last pages are always kept, if the budget has room for them
    """

    sinks: int = 1
    window: int = 2
    name: ClassVar[str] = "arkvale"
    paper: ClassVar[str] = "NeurIPS 2024"
    unit: ClassVar[Unit] = Unit.PAGE

    def start(self, context: LayerContext) -> State:
        return DigestState(context, self)

"""ArkVale: Quest's boxes drawn around their mean, and one choice for a whole layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.policies.base import LayerContext, Policy, State, Unit, grown
from kv.selection import FloatArray


class DigestState(State):
    """Centre and mean distance from it of the keys of each full page: float32 [kv_heads, pages, 2, head_dim]."""

    def __init__(self, context: LayerContext, sinks: int, window: int) -> None:
        super().__init__(context)
        g = context.geometry
        self._sinks, self._window = sinks, window
        self._digests = np.zeros((g.num_kv_heads, 0, 2, g.head_dim), np.float32)
        self._tail = np.zeros((0, g.num_kv_heads, g.head_dim), np.float32)  # keys of the page that is not full

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        size = self.geometry.page_size
        first, last = start // size, self.length // size
        keys = np.concatenate([self._tail[: start % size], keys])
        pages = keys[: (last - first) * size].reshape(last - first, size, *keys.shape[1:]).transpose(2, 0, 1, 3)  # [kv_heads, P, S, dim]
        self._tail = keys[(last - first) * size :].copy()
        if last == first:
            return
        self._digests = grown(self._digests, last, axis=1)
        centre = (pages.max(2) + pages.min(2)) / 2
        self._digests[:, first:last, 0] = centre
        self._digests[:, first:last, 1] = np.abs(pages - centre[:, :, None]).mean(2)

    def scores(self, q: FloatArray) -> FloatArray:
        heads, full = self.geometry.num_kv_heads, self.length // self.geometry.page_size
        both = np.concatenate([q, np.abs(q)], 1).reshape(heads, self.geometry.group, -1)
        per_head = both @ self._digests[:, :full].reshape(heads, full, both.shape[-1]).swapaxes(1, 2)
        scores = np.full((1, self.num_pages), np.inf, np.float32)
        scores[0, :full] = per_head.sum((0, 1))
        scores[0, : self._sinks] = np.inf
        scores[0, max(0, self.num_pages - self._window) :] = np.inf
        return scores

    def truncate(self, length: int) -> None:
        size = self.geometry.page_size
        if length // size < self.length // size:
            self._tail = self.context.keys()[:, length // size * size : length].swapaxes(0, 1).copy()
        else:
            self._tail = self._tail[: length % size]
        super().truncate(length)

    @property
    def score_bytes(self) -> int:
        return self.metadata_bytes

    @property
    def metadata_bytes(self) -> int:
        g = self.geometry
        return 2 * g.num_kv_heads * g.head_dim * (self.length // g.page_size) * self.context.element_bytes


@dataclass(frozen=True)
class ArkVale(Policy):
    """Ranks pages by q.centre + |q|.mean distance, summed over all heads. Tighter than Quest's score and not a bound.

    sinks, window   first and last pages that are always kept, if the budget holds them
    """

    sinks: int = 1
    window: int = 2
    name: ClassVar[str] = "arkvale"
    paper: ClassVar[str] = "NeurIPS 2024"
    unit: ClassVar[Unit] = Unit.PAGE

    def start(self, context: LayerContext) -> State:
        budget_pages = context.geometry.pages(context.budget_tokens)
        window = min(self.window, budget_pages)
        return DigestState(context, min(self.sinks, budget_pages - window), window)

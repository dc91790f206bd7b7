"""SnapKV: keeps the prompt's tokens that its last queries attended to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit
from kv.policies.eviction import EvictingState


class SnapState(EvictingState):
    def __init__(self, context: LayerContext, window: int, kernel: int) -> None:
        super().__init__(context, rows=context.geometry.num_kv_heads)
        self._most_window = window
        self._kernel = kernel
        # weights of the prompt's last queries
        self._queries = np.zeros((context.geometry.num_kv_heads, 0, 0), np.float32)
        self._votes: FloatArray | None = None

    @property
    def _window(self) -> int:
        return min(self._most_window, max(1, self.context.budget_tokens // 2))

    def observe(self, weights: FloatArray) -> None:
        if self._votes is not None:
            return
        known = np.zeros((*self._queries.shape[:2], weights.shape[2]), np.float32)
        known[:, :, : self._queries.shape[2]] = self._queries
        self._queries = np.concatenate([known, weights], 1)[:, -self._most_window :].copy()

    def ranks(self) -> FloatArray:
        if self._votes is None:
            self._votes = self._pooled_votes()
            self._queries = self._queries[:, :0]
        prompt = min(self._votes.shape[1], self.length)
        ranks = np.zeros((len(self._votes), self.length), np.float32)
        ranks[:, :prompt] = self._votes[:, :prompt]
        recent = min(max(self._window, self.length - prompt), max(self._window, self.context.budget_tokens // 2))
        ranks[:, max(0, self.length - recent) :] = np.inf
        return ranks

    def _pooled_votes(self) -> FloatArray:
        """Each token gets the largest vote among its neighbours, so that a token is kept together with those around
        it."""
        votes = self._queries[:, -self._window :].sum(1)
        before = self._kernel // 2
        padded = np.pad(votes, ((0, 0), (before, self._kernel - 1 - before)))
        pooled: FloatArray = sliding_window_view(padded, self._kernel, axis=1).max(-1)
        return pooled

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        super().truncate(length, read_keys)
        self._queries = self._queries[:, :, :length]


@dataclass(frozen=True)
class SnapKV(Policy):
    """When the first token is decoded, it keeps the prompt's last `window` tokens and the tokens that they attended to
    most, for each KV head.

    The original keeps every generated token. Here generated tokens take at most half of the budget, the latest first.

    window  number of the prompt's last queries that vote (at most half of the budget)
    kernel  width of the max pooling over votes
    """

    window: int = 32
    kernel: int = 5
    name: ClassVar[str] = "snapkv"
    paper: ClassVar[str] = "arXiv 2404.14469"
    unit: ClassVar[Unit] = Unit.TOKEN
    wants_weights: ClassVar[bool] = True
    evicts: ClassVar[bool] = True

    def start(self, context: LayerContext) -> State:
        return SnapState(context, self.window, self.kernel)

"""H2O: keeps the tokens that received the most attention so far, and the last ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit, grown
from kv.policies.eviction import EvictingState


class HeavyHitterState(EvictingState):
    def __init__(self, context: LayerContext, recent_share: float) -> None:
        super().__init__(context, rows=context.geometry.num_kv_heads)
        self._recent_share = recent_share
        self._mass = np.zeros((context.geometry.num_kv_heads, 0), np.float32)

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        self._mass = grown(self._mass, self.length, axis=1)

    def observe(self, weights: FloatArray) -> None:
        self._mass[:, : weights.shape[2]] += weights.sum(1)

    def ranks(self) -> FloatArray:
        ranks = self._mass[:, : self.length].copy()
        recent = max(1, int(self._recent_share * self.context.budget_tokens))
        ranks[:, max(0, self.length - recent) :] = np.inf
        return ranks

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        super().truncate(length, read_keys)
        self._mass[:, length:] = 0

    @property
    def metadata_bytes(self) -> int:
        return 4 * self._mass.shape[0] * min(self.length, self.context.budget_tokens)


@dataclass(frozen=True)
class H2O(Policy):
    """Adds up each token's softmax weights for each KV head. Every step evicts the token with the smallest sum that is
    not recent.

    recent_share    share of the budget for a sliding window (half in the paper)
    """

    recent_share: float = 0.5
    name: ClassVar[str] = "h2o"
    paper: ClassVar[str] = "arXiv 2306.14048"
    unit: ClassVar[Unit] = Unit.TOKEN
    wants_weights: ClassVar[bool] = True
    evicts: ClassVar[bool] = True

    def start(self, context: LayerContext) -> State:
        return HeavyHitterState(context, self.recent_share)

"""TOVA: keeps the tokens that the last query attended to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, State, Unit
from kv.policies.eviction import EvictingState


class LastQueryState(EvictingState):
    def __init__(self, context: LayerContext) -> None:
        super().__init__(context, rows=1)
        self._last = np.zeros(0, np.float32)

    def observe(self, weights: FloatArray) -> None:
        self._last = weights[:, -1].sum(0) / self.geometry.num_q_heads

    def ranks(self) -> FloatArray:
        ranks = np.full((1, self.length), np.inf, np.float32)  # a token that no query has seen yet is kept
        known = min(len(self._last), self.length)
        ranks[0, :known] = self._last[:known]
        return ranks


@dataclass(frozen=True)
class TOVA(Policy):
    """Evicts the token with the lowest weight from the last query, averaged over all heads, so that all heads of a
    layer keep the same tokens."""

    name: ClassVar[str] = "tova"
    paper: ClassVar[str] = "arXiv 2401.06104"
    unit: ClassVar[Unit] = Unit.TOKEN
    wants_weights: ClassVar[bool] = True
    evicts: ClassVar[bool] = True

    def start(self, context: LayerContext) -> State:
        return LastQueryState(context)

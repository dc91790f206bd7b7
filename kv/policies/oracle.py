"""Exact top-k: the upper limit for policies that estimate weights, and the exact index that RetrievalAttention is
compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit, group_scores, softmax


class OracleState(State):
    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        dots = group_scores(q, read_keys()) / np.float32(np.sqrt(self.geometry.head_dim))
        return softmax(dots).sum(1)

    @property
    def score_bytes(self) -> int:
        g = self.geometry
        return self.length * g.num_kv_heads * g.head_dim * self.context.element_bytes


@dataclass(frozen=True)
class OracleTopK(Policy):
    """Keeps the tokens of each KV head with the largest softmax weight, summed over its query heads. It reads every key
    to find them."""

    name: ClassVar[str] = "oracle"
    unit: ClassVar[Unit] = Unit.TOKEN

    def start(self, context: LayerContext) -> State:
        return OracleState(context)

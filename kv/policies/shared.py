"""A wrapper that lets heads share a selection. That decides how many bytes a gather moves, and in how long runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from kv.arrays import FloatArray
from kv.errors import KVError
from kv.policies.base import LayerContext, Policy, ReadKeys, State
from kv.policies.table import best
from kv.policies.wrapper import WrappedState, Wrapper


class Sharing(Enum):
    """Which heads share a selection, and how their scores are joined."""

    Q_HEAD = "q_head"
    """Each query head has its own selection (as in Quest's kernels)."""
    KV_MAX = "kv_max"
    """The query heads of a KV head share one, by their largest score, which is a bound if the scores are (as in
    ShadowKV, imp)."""
    KV_SUM = "kv_sum"
    """The same by the sum of their scores (as in sparse-frontier, PQCache)."""
    KV_MEAN = "kv_mean"
    """The same by the mean of their scores."""
    KV_SOFTMAX = "kv_softmax"
    """The same by the sum of each query head's softmax over the units, so that a sharp head outvotes flat ones."""
    KV_GAP = "kv_gap"
    """The same by how little each query head's score is below its own best one. Needs no exp."""
    LAYER = "layer"
    """All heads of a layer share one, by the sum over all heads (as in InfLLM, ArkVale)."""
    LAYER_MEAN_QUERY = "layer_mean_query"
    """The same, where each KV head scores the mean of its query heads (as in SGLang's Quest)."""
    UNION = "union"
    """The query heads of a KV head share everything that any of them chose, up to group times the budget."""

    def __repr__(self) -> str:
        return f"Sharing.{self.name}"


class SharedState(WrappedState):
    def __init__(self, base: State, sharing: Sharing, unit_tokens: int) -> None:
        super().__init__(base)
        self._sharing = sharing
        self._unit_tokens = unit_tokens

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        g = self.geometry
        if self._sharing is Sharing.LAYER_MEAN_QUERY:
            q = np.repeat(q.reshape(g.num_kv_heads, g.group, -1).mean(1), g.group, axis=0)
        scores = self.base.scores(q, read_keys)
        if self._sharing in (Sharing.LAYER, Sharing.LAYER_MEAN_QUERY):
            return scores.sum(0, keepdims=True)
        if len(scores) != g.num_q_heads or self._sharing is Sharing.Q_HEAD:
            return scores
        grouped = scores.reshape(g.num_kv_heads, g.group, -1)
        if self._sharing is Sharing.KV_MAX:
            return grouped.max(1)
        if self._sharing is Sharing.KV_SUM:
            return grouped.sum(1)
        if self._sharing is Sharing.KV_MEAN:
            return grouped.mean(1)
        if self._sharing in (Sharing.KV_SOFTMAX, Sharing.KV_GAP):
            return self._compared(grouped)
        count = -(-self.context.budget_tokens // self._unit_tokens)
        kept = best(scores[:, :-1], count - 1).reshape(g.num_kv_heads, g.group, -1).any(1)
        union = np.full((g.num_kv_heads, scores.shape[1]), np.float32(np.inf))
        union[:, :-1][~kept] = -np.inf
        return union

    def _compared(self, grouped: FloatArray) -> FloatArray:
        """Scores [kv_heads, group, units], joined after each query head's are set against its own best; +inf stays."""
        must = grouped == np.inf
        open_ones = np.where(must, -np.inf, grouped)
        best_of_head = open_ones.max(-1, keepdims=True)
        gaps = open_ones - np.where(np.isfinite(best_of_head), best_of_head, 0)
        if self._sharing is Sharing.KV_GAP:
            joined = gaps.max(1)
        else:
            shares = np.exp(gaps / np.float32(np.sqrt(self.geometry.head_dim)))
            joined = (shares / np.maximum(shares.sum(-1, keepdims=True), np.float32(1e-30))).sum(1)
            joined[(open_ones == -np.inf).all(1)] = -np.inf
        joined[must.any(1)] = np.inf
        return joined

    def width(self, count: int, num_units: int) -> int:
        if self._sharing is Sharing.UNION:
            return min(num_units, 1 + self.geometry.group * (count - 1))
        return self.base.width(count, num_units)


@dataclass(frozen=True)
class Shared(Wrapper):
    """Joins the scores of query heads before the choice. Scores that the policy gives for KV heads are only joined with
    Sharing.LAYER.

    sharing     which heads share a selection, and how their scores are joined
    """

    base: Policy
    sharing: Sharing = Sharing.KV_MAX

    def start(self, context: LayerContext) -> State:
        if self.sharing is Sharing.UNION and self.evicts:
            raise KVError(
                f"{self.name} evicts, so a union of selections has no meaning for it: share by kv_max, "
                "kv_sum, kv_mean or layer"
            )
        return SharedState(self.base.start(context), self.sharing, context.unit_tokens(self.unit))

"""IVF: an inverted file over keys, the simple approximate index that RetrievalAttention is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit, group_scores, grown, softmax
from kv.policies.kmeans import kmeans, nearest
from kv.policies.protected import keep_ends, within_budget


class InvertedFileState(State):
    def __init__(self, context: LayerContext, policy: IVF) -> None:
        super().__init__(context)
        self._policy = policy
        self._centroids: list[FloatArray] = []  # of each KV head, [lists, head_dim]
        self._member = np.zeros((context.geometry.num_kv_heads, 0), np.int64)
        self._visited = 0

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        self._member = grown(self._member, self.length, axis=1)
        for head, centroids in enumerate(self._centroids):
            self._member[head, start : self.length] = nearest(keys[:, head], centroids)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        self.learn(read_keys)
        keys = read_keys()
        g = self.geometry
        member = self._member[:, : self.length]
        probed = np.zeros((g.num_kv_heads, self.length), np.bool_)
        for head, centroids in enumerate(self._centroids):
            similarity = q.reshape(g.num_kv_heads, g.group, -1)[head] @ centroids.T  # [group, lists]
            nearby = np.argsort(-similarity, axis=1, kind="stable")[:, : self._policy.probes]
            probed[head] = np.isin(member[head], nearby)
        self._visited = int(probed.sum())
        scores = softmax(group_scores(q, keys) / np.float32(np.sqrt(g.head_dim))).sum(1)
        scores[~probed] = -np.inf
        keep_ends(
            scores, 1, self.length, *within_budget(self._policy.sinks, self._policy.recent, self.context.budget_tokens)
        )
        return scores

    def learn(self, read_keys: ReadKeys) -> None:
        if self._centroids:
            return
        keys = read_keys()
        lists = max(1, self.length // self._policy.list_tokens)
        self._centroids = [kmeans(keys[head], lists) for head in range(len(keys))]
        for head, centroids in enumerate(self._centroids):
            self._member[head, : self.length] = nearest(keys[head], centroids)

    @property
    def score_bytes(self) -> int:
        """Bytes of the centroids, and of the keys in the lists that the last query visited."""
        vectors = sum(map(len, self._centroids)) + self._visited
        return vectors * self.geometry.head_dim * self.context.element_bytes

    @property
    def metadata_bytes(self) -> int:
        centroids = sum(map(len, self._centroids)) * self.geometry.head_dim * self.context.element_bytes
        return centroids + 4 * self.geometry.num_kv_heads * self.length


@dataclass(frozen=True)
class IVF(Policy):
    """Clusters the prompt's keys into lists when decoding begins. Each query head visits its `probes` nearest lists,
    and the tokens there with the largest weights are kept.

    list_tokens     mean number of tokens in a list
    probes          number of lists that a query head visits
    sinks, recent   the first and last tokens, which are always kept (at most a quarter and a half of the budget)
    """

    list_tokens: int = 32
    probes: int = 8
    sinks: int = 4
    recent: int = 32
    name: ClassVar[str] = "ivf"
    unit: ClassVar[Unit] = Unit.TOKEN

    def start(self, context: LayerContext) -> State:
        return InvertedFileState(context, self)

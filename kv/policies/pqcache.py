"""PQCache: ranks tokens by their product-quantised keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.errors import KVError
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit, grown, softmax
from kv.policies.kmeans import kmeans, nearest
from kv.policies.protected import keep_ends, within_budget


class CodebookState(State):
    def __init__(self, context: LayerContext, policy: PQCache) -> None:
        super().__init__(context)
        heads, dim = context.geometry.num_kv_heads, context.geometry.head_dim
        self._policy = policy
        self._parts = (heads, policy.subspaces, dim // policy.subspaces)
        self._codebook: FloatArray | None = None  # [kv_heads, subspaces, centroids, dim / subspaces]
        self._codes = np.zeros((heads, policy.subspaces, 0), np.uint8 if policy.bits <= 8 else np.uint16)

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        self._codes = grown(self._codes, self.length, axis=2)
        if self._codebook is not None:
            self._encode(start, keys.swapaxes(0, 1))

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        self.learn(read_keys)
        assert self._codebook is not None
        g = self.geometry
        # [kv_heads, subspaces, group, dim / subspaces]
        parts = q.reshape(g.num_kv_heads, g.group, *self._parts[1:]).swapaxes(1, 2)
        table = parts @ self._codebook.swapaxes(2, 3)  # [kv_heads, subspaces, group, centroids]
        codes = self._codes[:, :, None, : self.length].astype(np.intp)
        dots = np.take_along_axis(table, np.broadcast_to(codes, (*table.shape[:3], self.length)), 3).sum(1)
        scores = softmax(dots / np.float32(np.sqrt(g.head_dim))).sum(1)
        budget = self.context.budget_tokens
        sinks, _ = within_budget(self._policy.sinks, 0, budget)
        keep_ends(scores, 1, self.length, sinks, int(self._policy.recent_share * (budget - sinks)))
        return scores

    def learn(self, read_keys: ReadKeys) -> None:
        if self._codebook is not None:
            return
        keys = read_keys()
        heads, subspaces, width = self._parts
        split = keys.reshape(heads, -1, subspaces, width).swapaxes(1, 2)
        self._codebook = np.zeros((heads, subspaces, 2**self._policy.bits, width), np.float32)
        for head in range(heads):
            for part in range(subspaces):
                centroids = kmeans(split[head, part], 2**self._policy.bits, self._policy.iterations)
                self._codebook[head, part, : len(centroids)] = centroids
                self._codebook[head, part, len(centroids) :] = centroids[0]
        self._encode(0, keys)

    def _encode(self, start: int, keys: FloatArray) -> None:
        assert self._codebook is not None
        heads, subspaces, width = self._parts
        split = keys.reshape(heads, -1, subspaces, width)
        for head in range(heads):
            for part in range(subspaces):
                self._codes[head, part, start : self.length] = nearest(split[head, :, part], self._codebook[head, part])

    @property
    def score_bytes(self) -> int:
        return self.metadata_bytes

    @property
    def metadata_bytes(self) -> int:
        heads, subspaces, width = self._parts
        code_bits = heads * subspaces * self._policy.bits * self.length
        return -(-code_bits // 8) + heads * subspaces * 2**self._policy.bits * width * self.context.element_bytes


@dataclass(frozen=True)
class PQCache(Policy):
    """Splits keys into sub-vectors. Each is coded by the nearest of 2**bits centroids, which are learnt from the prompt
    when decoding begins.

    A token's score is its softmax weight computed with the coded keys, summed over the query heads of its KV head.

    subspaces       number of sub-vectors of a key; it must divide head_dim
    bits            bits of a code
    iterations      iterations of k-means
    sinks           the first tokens, which are always kept (at most a quarter of the budget)
    recent_share    share of the rest of the budget for a sliding window
    """

    subspaces: int = 2
    bits: int = 6
    iterations: int = 10
    sinks: int = 32
    recent_share: float = 0.5
    name: ClassVar[str] = "pqcache"
    paper: ClassVar[str] = "arXiv 2407.12820"
    unit: ClassVar[Unit] = Unit.TOKEN

    def start(self, context: LayerContext) -> State:
        if context.geometry.head_dim % self.subspaces:
            raise KVError(
                f"subspaces is {self.subspaces}, which does not divide a head of {context.geometry.head_dim} elements: "
                "choose a divisor"
            )
        return CodebookState(context, self)

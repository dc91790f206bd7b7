"""InfLLM: pages are represented by the few tokens in them that received the most attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit, group_scores, grown
from kv.policies.protected import keep_ends
from kv.policies.shared import SharedState, Sharing
from kv.policies.table import best


class RepresentativeState(State):
    def __init__(self, context: LayerContext, policy: InfLLM) -> None:
        super().__init__(context)
        self._policy = policy
        self._mass = np.zeros((context.geometry.num_kv_heads, 0), np.float32)
        self._means = np.zeros((context.geometry.num_kv_heads, 0, context.geometry.head_dim), np.float32)
        self._settled = 0
        """Number of first pages whose representatives are final."""

    @property
    def _local(self) -> int:
        return int(self._policy.local_share * self.context.budget_tokens)

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        self._mass = grown(self._mass, self.length, axis=1)

    def observe(self, weights: FloatArray) -> None:
        """Adds up the weights that a token gets from its own query and from those up to voters - 1 positions later."""
        num_queries, length = weights.shape[1:]
        first = max(0, length - num_queries - self._policy.voters + 1)
        distance = np.arange(length - num_queries, length)[:, None] - np.arange(first, length)
        self._mass[:, first:length] += np.where(distance < self._policy.voters, weights[:, :, first:], 0).sum(1)

    def learn(self, read_keys: ReadKeys) -> None:
        self._settle(max(0, self.length - self._local) // self.geometry.page_size, read_keys)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        g = self.geometry
        self.learn(read_keys)
        scores = np.full((len(q), self.num_pages), np.inf, np.float32)
        scores[:, : self._settled] = group_scores(q, self._means[:, : self._settled]).reshape(len(q), -1)
        keep_ends(scores, g.page_size, self.length, self._policy.sinks, 0)
        return scores

    def _settle(self, num_pages: int, read_keys: ReadKeys) -> None:
        """Chooses the representatives of pages that have left the local window. They do not change later."""
        g, first = self.geometry, self._settled
        if num_pages <= first:
            return
        span = slice(first * g.page_size, num_pages * g.page_size)
        mass = self._mass[:, span].reshape(-1, g.page_size)
        chosen = best(mass, self._policy.representatives).reshape(g.num_kv_heads, -1, g.page_size, 1)
        keys = read_keys()[:, span].reshape(g.num_kv_heads, -1, g.page_size, g.head_dim)
        self._means = grown(self._means, num_pages, axis=1)
        self._means[:, first:num_pages] = np.where(chosen, keys, 0).sum(2) / chosen.sum(2)
        self._settled = num_pages

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        super().truncate(length, read_keys)
        self._mass[:, length:] = 0
        self._settled = min(self._settled, length // self.geometry.page_size)

    @property
    def score_bytes(self) -> int:
        g = self.geometry
        return g.num_kv_heads * g.head_dim * self.num_pages * self.context.element_bytes

    @property
    def metadata_bytes(self) -> int:
        return self.score_bytes + 4 * self.geometry.num_kv_heads * min(self.length, self._policy.voters)


@dataclass(frozen=True)
class InfLLM(Policy):
    """A page's key is the mean key of its `representatives` most attended tokens, and its score is q.key.

    Differences from the paper: a block is the cache's page here, not 128 tokens (set page_size); prefill is dense;
    distant tokens keep their rotary distances, since keys are cached after RoPE. The 128 sinks and 4,096 local tokens
    of the paper are `sinks` and a share of the budget.

    representatives     number of tokens that represent a page
    sinks               the first tokens, which are always kept
    local_share         share of the budget for a sliding window
    voters              number of queries, from a token's own on, whose attention to it counts for the choice of
                        representatives
    sharing             which heads share a choice; in the paper, all of a layer
    """

    representatives: int = 4
    sinks: int = 4
    local_share: float = 0.5
    voters: int = 512
    sharing: Sharing = Sharing.LAYER
    name: ClassVar[str] = "infllm"
    paper: ClassVar[str] = "arXiv 2402.04617"
    unit: ClassVar[Unit] = Unit.PAGE
    wants_weights: ClassVar[bool] = True

    def start(self, context: LayerContext) -> State:
        return SharedState(RepresentativeState(context, self), self.sharing, context.unit_tokens(self.unit))

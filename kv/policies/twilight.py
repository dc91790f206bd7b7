"""Twilight: keeps only as many of the tokens that another policy chose as the attention needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from kv.arrays import BoolArray, FloatArray
from kv.errors import KVError
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit, grown, softmax
from kv.policies.quest import Quest
from kv.policies.table import PAD, choose, table_of
from kv.policies.wrapper import WrappedState

LEVELS = 15
"""Steps of a 4-bit code."""


def top_p(weights: FloatArray, p: float) -> BoolArray:
    """The smallest set of weights of each row that sums to at least p, as bool of the shape of `weights`, float32
    [rows, n], whose rows sum to 1."""
    order = np.argsort(-weights, axis=1, kind="stable")
    ranked = np.take_along_axis(weights, order, 1)
    before = np.cumsum(ranked, axis=1) - ranked
    kept = np.zeros(weights.shape, np.bool_)
    np.put_along_axis(kept, order, (before < p) & (ranked > 0), 1)
    return kept


class TopPState(WrappedState):
    """A state with a 4-bit copy of the keys: codes between each token's smallest and largest element."""

    def __init__(self, base: State, policy: Twilight) -> None:
        super().__init__(base)
        g = base.geometry
        self._policy = policy
        self._codes = np.zeros((g.num_kv_heads, 0, g.head_dim), np.uint8)
        self._ranges = np.zeros((g.num_kv_heads, 0, 2), np.float32)  # least element, step

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        keys = keys.swapaxes(0, 1)
        least = keys.min(-1)
        step = (keys.max(-1) - least) / LEVELS
        self._codes = grown(self._codes, self.length, axis=1)
        self._ranges = grown(self._ranges, self.length, axis=1)
        self._codes[:, start : self.length] = np.rint(
            (keys - least[..., None]) / np.where(step > 0, step, 1)[..., None]
        )
        self._ranges[:, start : self.length] = np.stack([least, step], -1)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        g = self.geometry
        unit_tokens = self.context.unit_tokens(self._policy.base.unit)
        base_scores = self.base.scores(q, read_keys)
        pages = choose(base_scores, -(-self.context.budget_tokens // unit_tokens))
        tokens = np.repeat(pages, unit_tokens, axis=1)[:, : self.length]
        table = table_of(tokens, int(tokens.sum(1).max())).units
        table = np.repeat(table, g.num_q_heads // len(table), axis=0)
        weights = softmax(np.where(table == PAD, -np.inf, self._estimate(q, table) / np.float32(np.sqrt(g.head_dim))))
        weights[~top_p(weights, self._policy.p)] = -np.inf
        worth = np.full((g.num_q_heads, self.length + 1), -np.inf, np.float32)
        np.put_along_axis(worth, table, weights, 1)  # PAD is the last column
        return worth[:, : self.length].reshape(g.num_kv_heads, g.group, -1).max(1)

    def _estimate(self, q: FloatArray, table: np.ndarray) -> FloatArray:
        """q.k of the coded keys at the positions in `table`: float32 [q_heads, width]."""
        heads = np.arange(len(q))[:, None] // self.geometry.group
        least, step = np.moveaxis(self._ranges[heads, table], -1, 0)
        coded = np.einsum("hd,hwd->hw", q, self._codes[heads, table].astype(np.float32))
        result: FloatArray = coded * step + q.sum(1, keepdims=True) * least
        return result

    def width(self, count: int, num_units: int) -> int:
        return min(count, num_units)

    @property
    def _token_bytes(self) -> int:
        """Bytes of one token's code and range in one KV head."""
        return self.geometry.head_dim // 2 + 2 * self.context.element_bytes

    @property
    def score_bytes(self) -> int:
        chosen = min(self.length, self.context.budget_tokens)
        return self.base.score_bytes + self.geometry.num_kv_heads * chosen * self._token_bytes

    @property
    def metadata_bytes(self) -> int:
        return self.base.metadata_bytes + self.geometry.num_kv_heads * self.length * self._token_bytes


@dataclass(frozen=True)
class Twilight(Policy):
    """Lets `base` choose tokens within the budget, estimates their weights from 4-bit keys, and keeps the fewest tokens
    whose weights sum to p.

    A KV head keeps what any of its query heads kept. So the number of kept tokens changes with every step and head. The
    table is always as wide as the budget, and its count has the number.

    base    any policy that does not evict
    p       share of the estimated softmax weights to keep
    """

    base: Policy = field(default_factory=Quest)
    p: float = 0.85
    name: ClassVar[str] = "twilight"
    paper: ClassVar[str] = "arXiv 2502.02770"
    unit: ClassVar[Unit] = Unit.TOKEN
    dense_within_budget: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise KVError(f"p is {self.p}: the kept share of the weights must be above 0 and at most 1")
        if self.base.evicts:
            raise KVError(
                f"{self.base.name} evicts, but Twilight chooses again in every step: give it a policy that keeps "
                "everything"
            )
        object.__setattr__(self, "wants_weights", self.base.wants_weights)

    def start(self, context: LayerContext) -> State:
        return TopPState(self.base.start(context), self)

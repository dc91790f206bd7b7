"""Mean pages: small pages, ranked by the means of a few neighbouring keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from kv.arrays import FloatArray
from kv.errors import KVError
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit
from kv.policies.key_blocks import KeyBlocks
from kv.policies.projection import Projection, read_projection
from kv.policies.protected import EndPagesState
from kv.policies.shared import SharedState, Sharing
from kv.policies.vector_table import ENOUGH, Stored, VectorTable

JOINS = (Sharing.KV_SOFTMAX, Sharing.KV_GAP, Sharing.KV_MAX)


class MeanState(State):
    """The mean of every `sub_page` keys, in int8, or its projection to `rank` elements."""

    def __init__(self, context: LayerContext, policy: MeanPages) -> None:
        super().__init__(context)
        g = context.geometry
        self._policy = policy
        self._projection: Projection | None = None
        if policy.rank:
            self._projection = read_projection(policy.calibration, g).of_layer(context.layer, policy.rank)
        self._blocks = KeyBlocks(g, policy.sub_page)
        self._table = VectorTable(g.num_kv_heads, policy.rank or g.head_dim, policy.stored)

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        means = self._blocks.add(keys).mean(2)  # [kv_heads, n, head_dim]
        if self._projection is not None:
            means = means @ self._projection.key
        if means.shape[1]:
            self._table.put(start // self._policy.sub_page, means.swapaxes(1, 2))

    def learn(self, read_keys: ReadKeys) -> None:
        self._table.settle(ENOUGH)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        """q.mean of each page's nearest mean, float32 [q_heads, pages]; +inf for the page that is not full."""
        self._table.settle()
        g, full = self.geometry, self.length // self.geometry.page_size
        scores = np.full((len(q), self.num_pages), np.inf, np.float32)
        grouped = q.reshape(g.num_kv_heads, g.group, g.head_dim)
        if self._projection is not None:
            grouped = grouped @ self._projection.query
        scaled = self._table.scaled(grouped).astype(ml_dtypes.bfloat16).astype(np.float32)
        dots = self._table.dot(scaled).reshape(len(q), -1)
        parts = g.page_size // self._policy.sub_page
        scores[:, :full] = dots[:, : full * parts].reshape(len(q), full, parts).max(2)
        return scores

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        self._blocks.truncate(self.length, length, read_keys)
        super().truncate(length, read_keys)
        self._table.cut(length // self._policy.sub_page)

    @property
    def score_bytes(self) -> int:
        return self.metadata_bytes

    @property
    def metadata_bytes(self) -> int:
        held = self._table.num_bytes(self.context.element_bytes)
        return held if self._projection is None else held + self._projection.num_bytes


@dataclass(frozen=True)
class MeanPages(Policy):
    """Ranks pages by q.m, m being the mean of a few neighbouring keys: a needle is a run of tokens, and a mean of four
    dilutes it by at most four, while the corner of a box promises more with every token.

    A page has the best score of its parts. Query heads are joined by softmax shares, so that the one sharp head of a
    group outvotes flat ones. The score is no bound, and it does not see the sink: the first page is always kept.

    page_size       tokens of a page, whatever the cache's is
    sub_page        tokens of a mean; divides page_size
    rank            elements that a mean is projected to, 0 for the mean itself. With a rank, `calibration` names the
                    file that says how, made for the model by `npusim calibrate`
    sharing         how the query heads of a KV head are joined: kv_softmax, kv_gap or kv_max
    sinks, recent   first and last pages that are always kept, as far as the budget holds them
    stored          what means are kept as
    """

    page_size: int = 8
    sub_page: int = 4
    rank: int = 0
    sharing: Sharing = Sharing.KV_SOFTMAX
    sinks: int = 1
    recent: int = 1
    stored: Stored = Stored.INT8
    calibration: str = ""
    name: ClassVar[str] = "mean_pages"
    unit: ClassVar[Unit] = Unit.PAGE

    def __post_init__(self) -> None:
        if self.sub_page < 1 or self.page_size % self.sub_page:
            raise KVError(f"sub_page is {self.sub_page}: it must divide the page of {self.page_size} tokens")
        if self.sharing not in JOINS:
            names = ", ".join(join.value for join in JOINS)
            raise KVError(f"sharing of {self.name} is {self.sharing.value}: it must be one of {names}")
        if self.rank < 0 or min(self.sinks, self.recent) < 0:
            raise KVError(f"rank, sinks and recent of {self.name} must be at least 0")
        if bool(self.rank) != bool(self.calibration):
            raise KVError(
                f"{self.name} has the rank {self.rank} and the calibration {self.calibration!r}: a projection needs "
                "both, so give both or neither"
            )

    @property
    def own_page_size(self) -> int:
        return self.page_size

    def start(self, context: LayerContext) -> State:
        state = MeanState(context.paged(self.page_size), self)
        return EndPagesState(SharedState(state, self.sharing, self.page_size), self.sinks, self.recent)

"""RetrievalAttention: finds keys by searching a graph whose edges are made from queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit, grown, softmax
from kv.policies.protected import keep_ends, within_budget
from kv.policies.query_graph import Links, query_graph, search
from kv.policies.table import PAD


class QuerySample:
    """Keeps between n and 2 n of a prompt's queries, evenly spread, for any length and any parts in which they are
    added."""

    def __init__(self, least: int) -> None:
        self._least, self._stride = least, 1
        self._queries: list[FloatArray] = []

    def add(self, start: int, q: FloatArray) -> None:
        """Adds queries `q`, float32 [T, q_heads, head_dim], of the positions from `start` on."""
        self._queries += map(np.copy, q[-(start + 1) % self._stride :: self._stride])
        while len(self._queries) >= 2 * self._least:
            self._queries = self._queries[1::2]
            self._stride *= 2

    def all(self) -> FloatArray:
        """The queries that are kept, float32 [n, q_heads, head_dim]."""
        return np.array(self._queries, np.float32)


class GraphState(State):
    def __init__(self, context: LayerContext, policy: RetrievalAttention) -> None:
        super().__init__(context)
        self._policy = policy
        self._queries = QuerySample(policy.train_queries)
        self._graphs: Links | None = None  # [kv_heads, L, degree + 2]
        self._starts = np.zeros((0, 0), np.int32)
        self._indexed = 0
        self._visited = 0

    def prefill(self, q: FloatArray) -> None:
        self._queries.add(self.length - len(q), q)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        g, budget = self.geometry, self.context.budget_tokens
        self.learn(read_keys)
        self._extend()
        assert self._graphs is not None
        scaled = q.reshape(g.num_kv_heads, g.group, -1) / np.float32(np.sqrt(g.head_dim))
        dots = search(
            scaled,
            read_keys(),
            self._graphs[:, : self.length],
            self._starts,
            max(self._policy.beam, budget // 4),
        )
        unseen = np.isneginf(dots)
        self._visited = int(dots.size - unseen.sum())
        scores = softmax(dots).sum(1)
        scores[unseen.all(1)] = -np.inf
        keep_ends(scores, 1, self.length, *within_budget(self._policy.sinks, self._policy.recent, budget))
        return scores

    def learn(self, read_keys: ReadKeys) -> None:
        if self._graphs is not None:
            return
        g, keys = self.geometry, read_keys()
        queries = self._queries.all().reshape(-1, g.num_kv_heads, g.group, g.head_dim).transpose(1, 0, 2, 3)
        built = [
            query_graph(k, q.reshape(-1, g.head_dim), self._policy.links, self._policy.degree)
            for k, q in zip(keys, queries, strict=True)
        ]
        graphs, starts = zip(*built, strict=True)
        self._graphs, self._starts = np.stack(graphs), np.stack(starts)
        self._indexed = self.length

    def _extend(self) -> None:
        """Adds tokens that were decoded since. No query of the prompt has edges to them, so they are only connected
        with their neighbours in position."""
        if self._graphs is None or self._indexed == self.length:
            return
        fresh = np.arange(self._indexed, self.length)
        self._graphs = grown(self._graphs, self.length, axis=1)
        self._graphs[:, fresh] = PAD
        self._graphs[:, fresh, -2] = fresh - 1
        self._graphs[:, fresh - 1, -1] = fresh
        self._indexed = self.length

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        super().truncate(length, read_keys)
        self._graphs = None  # edges may lead past the end; it is built again when the next token is decoded
        self._indexed = 0

    @property
    def score_bytes(self) -> int:
        """Bytes of the keys and neighbour lists that the last query visited."""
        return self._visited * (self.geometry.head_dim * self.context.element_bytes + 4 * (self._policy.degree + 2))

    @property
    def metadata_bytes(self) -> int:
        return 4 * self.geometry.num_kv_heads * self.length * (self._policy.degree + 2)


@dataclass(frozen=True)
class RetrievalAttention(Policy):
    """Every query head searches a graph of its KV head's keys, which is built from the prompt's queries when decoding
    begins.

    Not done: attention on the host for what was found there (only its bytes are counted), and RoarGraph's pruning of
    occluded edges.

    links           number of keys that a query of the prompt connects
    degree          number of neighbours of a key
    beam            width of the search; at least a quarter of the budget
    train_queries   number of positions of the prompt whose queries build the graph: between this and twice as many,
                    evenly spread
    sinks, recent   the first and last tokens, which are always kept (at most a quarter and a half of the budget)
    """

    links: int = 32
    degree: int = 32
    beam: int = 64
    train_queries: int = 128
    sinks: int = 4
    recent: int = 32
    name: ClassVar[str] = "retrieval_attention"
    paper: ClassVar[str] = "arXiv 2409.10516"
    unit: ClassVar[Unit] = Unit.TOKEN

    def start(self, context: LayerContext) -> State:
        return GraphState(context, self)

"""RetrievalAttention: a graph over keys whose edges come from queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kv.policies.base import LayerContext, Policy, State, Unit, grown
from kv.policies.protected import protected_units, within_budget
from kv.selection import PAD, FloatArray

IntArray = NDArray[np.int64]


def query_graph(keys: FloatArray, queries: FloatArray, links: int, degree: int) -> tuple[IntArray, IntArray]:
    """Neighbours of each key, int [L, degree + 2] padded with PAD, and where a search starts, int [<= degree + 16].

    Decode queries lie far from keys, so a key's nearest keys are a poor way towards them (the paper's section 3). Instead each of the
    prompt's queries, float32 [n, dim], joins the `links` keys it matches best: the best with each of the others (RoarGraph's projection).
    Keys keep their most frequent neighbours. Each key is also joined with the ones before and after it, so that all can be reached.
    """
    num_keys = len(keys)
    links = min(links, num_keys)
    dots = queries @ keys.T
    closest = np.argpartition(-dots, links - 1, axis=1)[:, :links]
    closest = np.take_along_axis(closest, np.argsort(-np.take_along_axis(dots, closest, 1), 1), 1)
    best = np.repeat(closest[:, 0], links - 1)
    others = closest[:, 1:].ravel()
    edges, votes = np.unique(np.concatenate([best * num_keys + others, others * num_keys + best]), return_counts=True)
    source, target = np.divmod(edges, num_keys)
    order = np.lexsort((-votes, source))
    source, target = source[order], target[order]
    place = np.arange(len(source)) - np.searchsorted(source, source)
    graph = np.full((num_keys, degree + 2), PAD, np.int64)
    kept = place < degree
    graph[source[kept], place[kept]] = target[kept]
    graph[1:, degree] = np.arange(num_keys - 1)
    graph[:-1, degree + 1] = np.arange(1, num_keys)
    hubs = np.argsort(-np.bincount(closest[:, 0], minlength=num_keys), kind="stable")[:degree]
    return graph, np.union1d(hubs, np.linspace(0, num_keys - 1, 16).astype(np.int64))


def search(q: FloatArray, keys: FloatArray, graph: IntArray, starts: IntArray, beam: int, expand: int = 16) -> tuple[IntArray, FloatArray]:
    """Best-first search for the largest q.k: the keys visited and their dot products. Expands `expand` keys of the beam at a time."""
    seen = np.zeros(len(keys), np.bool_)
    expanded = np.zeros(len(keys), np.bool_)
    dots = np.full(len(keys), -np.inf, np.float32)
    fresh = starts
    candidates = np.zeros(0, np.int64)
    while len(fresh):
        seen[fresh] = True
        dots[fresh] = keys[fresh] @ q
        candidates = np.concatenate([candidates, fresh])
        candidates = candidates[np.argsort(-dots[candidates], kind="stable")[:beam]]
        frontier = candidates[~expanded[candidates]][:expand]
        while len(frontier):
            expanded[frontier] = True
            around = np.unique(graph[frontier])
            fresh = around[(around != PAD) & ~seen[around]]
            if len(fresh):
                break
            frontier = candidates[~expanded[candidates]][:expand]
        else:
            break
    visited = np.flatnonzero(seen)
    return visited, dots[visited]


class GraphState(State):
    def __init__(self, context: LayerContext, policy: RetrievalAttention) -> None:
        super().__init__(context)
        self._policy = policy
        self._protected = within_budget(policy.sinks, policy.recent, context.budget_tokens)
        self._queries: list[FloatArray] = []
        self._graphs: list[tuple[IntArray, IntArray]] = []
        self._indexed = 0
        self._visited = 0

    def prefill(self, q: FloatArray) -> None:
        step = -(-len(q) // self._policy.train_queries)
        self._queries.append(q[step - 1 :: step].copy())

    def scores(self, q: FloatArray) -> FloatArray:
        g = self.geometry
        keys = self.context.keys()
        if not self._graphs:
            self._build(keys)
        self._extend()
        scores = np.full((g.num_kv_heads, self.length), -np.inf, np.float32)
        beam = max(self._policy.beam, self.context.budget_tokens)
        scaled = q.reshape(g.num_kv_heads, g.group, -1) / np.float32(np.sqrt(g.head_dim))
        self._visited = 0
        for head, (graph, starts) in enumerate(self._graphs):
            for query in scaled[head]:
                visited, dots = search(query, keys[head], graph[: self.length], starts, beam)
                weights = np.exp(dots - dots.max())
                scores[head, visited] = np.maximum(scores[head, visited], 0) + weights / weights.sum()
                self._visited += len(visited)
        scores[:, protected_units(self.length, 1, self.length, *self._protected)] = np.inf
        return scores

    def _build(self, keys: FloatArray) -> None:
        g = self.geometry
        queries = np.concatenate(self._queries) if self._queries else np.zeros((0, g.num_q_heads, g.head_dim), np.float32)
        per_head = (
            queries.reshape(len(queries), g.num_kv_heads, g.group, g.head_dim).transpose(1, 0, 2, 3).reshape(g.num_kv_heads, -1, g.head_dim)
        )
        self._graphs = [query_graph(k, q, self._policy.links, self._policy.degree) for k, q in zip(keys, per_head, strict=True)]
        self._queries.clear()
        self._indexed = self.length

    def _extend(self) -> None:
        """Tokens decoded since have no query to vote for them: they join the chain of positions."""
        if self._indexed == self.length:
            return
        fresh = np.arange(self._indexed, self.length)
        for head, (graph, starts) in enumerate(self._graphs):
            graph = grown(graph, self.length, axis=0)
            graph[fresh] = PAD
            graph[fresh, -2] = fresh - 1
            graph[fresh - 1, -1] = fresh
            self._graphs[head] = (graph, starts)
        self._indexed = self.length

    def truncate(self, length: int) -> None:
        super().truncate(length)
        self._graphs = []  # edges may lead beyond the end; rebuilt when the next token is decoded
        self._indexed = 0

    @property
    def score_bytes(self) -> int:
        """Of the keys and neighbour lists that the last query visited."""
        return self._visited * (self.geometry.head_dim * self.context.element_bytes + 4 * (self._policy.degree + 2))

    @property
    def metadata_bytes(self) -> int:
        return 4 * self.geometry.num_kv_heads * self.length * (self._policy.degree + 2)


@dataclass(frozen=True)
class RetrievalAttention(Policy):
    """Searches a graph over each KV head's keys, built from the prompt's queries when decoding begins, from every query head.

    Left out: attention on the host of what was found there (only its bytes are counted), and RoarGraph's pruning of occluded edges.

    links           keys that a query of the prompt joins
    degree          neighbours of a key
    beam            least width of the search; never below the budget
    train_queries   queries taken from each part of the prompt that is computed at once, evenly
    sinks, recent   first and last tokens that are always kept (at most a quarter and a half of the budget)
    """

    links: int = 32
    degree: int = 32
    beam: int = 64
    train_queries: int = 256
    sinks: int = 4
    recent: int = 32
    name: ClassVar[str] = "retrieval_attention"
    paper: ClassVar[str] = "arXiv 2409.10516"
    unit: ClassVar[Unit] = Unit.TOKEN

    def start(self, context: LayerContext) -> State:
        return GraphState(context, self)

"""A graph of keys whose edges are made from queries, and best-first search in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kv.arrays import FloatArray
from kv.policies.table import PAD, best

Links = NDArray[np.int32]


def query_graph(keys: FloatArray, queries: FloatArray, links: int, degree: int) -> tuple[Links, Links]:
    """(neighbours of each key, int32 [L, degree + 2]; keys where a search starts, int32 [degree + 16]), both padded
    with PAD. keys: float32 [L, dim], queries: float32 [n, dim].

    Decode queries are far from keys, so edges between nearest keys do not lead to the best keys for a query
    (RetrievalAttention, section 3). Instead, each of the prompt's queries connects the `links` keys that it matches
    best: the best one with each of the others, as in RoarGraph's projection. A key keeps its most frequent neighbours.
    It is also connected with the keys before and after it, so that all keys can be reached."""
    num_keys = len(keys)
    links = min(links, num_keys)
    dots = queries @ keys.T
    closest = np.nonzero(best(dots, links))[1].reshape(-1, links)
    closest = np.take_along_axis(closest, np.argsort(-np.take_along_axis(dots, closest, 1), 1), 1)
    first = np.repeat(closest[:, 0], links - 1)
    others = closest[:, 1:].ravel()
    edges, votes = np.unique(np.concatenate([first * num_keys + others, others * num_keys + first]), return_counts=True)
    source, target = np.divmod(edges, num_keys)
    order = np.lexsort((-votes, source))
    source, target = source[order], target[order]
    place = np.arange(len(source)) - np.searchsorted(source, source)
    graph = np.full((num_keys, degree + 2), PAD, np.int32)
    kept = place < degree
    graph[source[kept], place[kept]] = target[kept]
    graph[1:, degree] = np.arange(num_keys - 1)
    graph[:-1, degree + 1] = np.arange(1, num_keys)
    hubs = np.argsort(-np.bincount(closest[:, 0], minlength=num_keys), kind="stable")[:degree]
    entries = np.union1d(hubs, np.linspace(0, num_keys - 1, 16).astype(np.int64))
    starts = np.full(degree + 16, PAD, np.int32)
    starts[: len(entries)] = entries
    return graph, starts


def search(q: FloatArray, keys: FloatArray, graphs: Links, starts: Links, beam: int) -> FloatArray:
    """Best-first search for the largest q.k, for all query heads at once.

    q: float32 [heads, group, dim], keys: float32 [heads, L, dim], graphs: int32 [heads, L, neighbours], starts: int32
    [heads, n] -> q.k, float32 [heads, group, L], with -inf for keys that were not visited

    Each query keeps the best `beam` keys that it has visited, and visits the neighbours of those in turn.
    """
    heads, group, dim = q.shape
    num_keys = keys.shape[1]
    rows = q.reshape(-1, dim)
    head_of = np.arange(len(rows)) // group
    dots = np.full((len(rows), num_keys), -np.inf, np.float32)
    expanded = np.zeros(dots.shape, np.bool_)
    row, near = np.arange(len(rows))[:, None], starts[head_of]
    unseen = np.ones(dots.shape, np.bool_)
    while True:
        fresh = np.zeros((len(rows), num_keys + 1), np.bool_)
        fresh[row, near] = True  # PAD marks the column past the end
        row, at = np.divmod(np.flatnonzero(fresh[:, :-1] & unseen), num_keys)
        unseen[row, at] = False
        dots[row, at] = np.einsum("nd,nd->n", keys[head_of[row], at], rows[row])
        frontier = best(dots, beam) & ~expanded
        row, at = np.divmod(np.flatnonzero(frontier), num_keys)
        if not len(row):
            return dots.reshape(heads, group, num_keys)
        expanded |= frontier
        row, near = row[:, None], graphs[head_of[row], at]

"""A small random decode run, shared by the tests of stores and policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from kv.memory.geometry import Geometry
from kv.sequence.attention import attend
from kv.sequence.paged_kv import PagedKV
from kv.sequence.selection import Selection

GEOMETRY = Geometry(num_layers=2, num_q_heads=4, num_kv_heads=2, head_dim=8, page_size=4)


@dataclass(frozen=True)
class Step:
    layer: int
    position: int
    q: np.ndarray
    selection: Selection
    out: np.ndarray


@dataclass(frozen=True)
class Text:
    """Queries, keys and values of every layer and position, float32 [layers, length, heads, dim]."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray

    @property
    def length(self) -> int:
        return self.q.shape[1]


def random_text(seed: int, length: int, geometry: Geometry = GEOMETRY) -> Text:
    rng = np.random.default_rng(seed)
    g = geometry
    q = rng.standard_normal((g.num_layers, length, g.num_q_heads, g.head_dim), np.float32)
    k, v = rng.standard_normal((2, g.num_layers, length, g.num_kv_heads, g.head_dim), np.float32)
    return Text(2 * q, k, v)


def run(store: PagedKV, text: Text, prompt: int, stop: int | None = None) -> Iterator[Step]:
    """Prefill from the store's length to `prompt` at once, then decode token by token, doing what a model does."""
    start = store.length
    stops = [prompt] if start < prompt else []
    stops += range(max(start, prompt) + 1, (stop or text.length) + 1)
    for end in stops:
        span = slice(store.length, end)
        for layer in range(store.cache.geometry.num_layers):
            store.append(layer, text.k[layer, span], text.v[layer, span])
            q = text.q[layer, span]
            selection = store.select(layer, q)
            if len(q) > 1:
                if store.wants_weights:
                    store.observe(layer, causal_weights(q, selection))
                continue
            out, weights = attend(q[0], selection)
            if store.wants_weights:
                store.observe(layer, weights[:, None])
            yield Step(layer, span.start, q[0], selection, out)


def causal_weights(q: np.ndarray, selection: Selection) -> np.ndarray:
    """Softmax weights [q_heads, T, S] of the last T positions over a dense selection."""
    length = selection.k.shape[1]
    rows = []
    for i, query in enumerate(q):
        hidden = selection.positions > length - len(q) + i
        rows.append(attend(query, Selection(selection.k, selection.v, selection.positions, ~hidden))[1])
    return np.stack(rows, 1)


@pytest.fixture(scope="session")
def geometry() -> Geometry:
    return GEOMETRY


@pytest.fixture(scope="session")
def make_text() -> Callable[..., Text]:
    return random_text


@pytest.fixture(scope="session")
def decode() -> Callable[..., Iterator[Step]]:
    return run

"""Each rival policy against a slow, plain statement of its rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies.base import LayerContext, Policy
from kv.policies.h2o import H2O
from kv.policies.infllm import InfLLM
from kv.policies.ivf import IVF
from kv.policies.kmeans import kmeans, nearest
from kv.policies.oracle import OracleTopK
from kv.policies.pqcache import PQCache
from kv.policies.query_graph import query_graph, search
from kv.policies.retrieval_attention import QuerySample, RetrievalAttention
from kv.policies.snapkv import SnapKV
from kv.policies.streaming_llm import StreamingLLM
from kv.policies.table import best, choose
from kv.policies.tova import TOVA
from kv.policies.twilight import Twilight, top_p
from kv.sequence.paged_kv import PagedKV

Maker = Callable[..., Any]
G = Geometry(1, 4, 2, 8, 4)


def started(policy: Policy, keys: np.ndarray, budget: int = 16) -> Any:
    state = policy.start(LayerContext(G, 0, budget, 4))
    state.append(0, keys)
    return state


def scored(policy_or_state: Any, keys: np.ndarray, q: np.ndarray, budget: int = 16) -> np.ndarray:
    """Scores of a state, or of a policy that was given these keys, which are there to read: [L, kv_heads, dim]."""
    state = started(policy_or_state, keys, budget) if isinstance(policy_or_state, Policy) else policy_or_state
    return state.scores(q, lambda: keys[: state.length].swapaxes(0, 1))


def random_keys(seed: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((length, 2, 8), np.float32), rng.standard_normal((4, 8), np.float32)


def kept_sets(store: PagedKV, decode: Maker, text: Any, prompt: int) -> list[list[list[int]]]:
    """Tokens of each row at each decoded token of a one-layer run that never fits its budget."""
    sets = []
    for step in decode(store, text, prompt):
        table = store.last_table[step.layer]
        assert table is not None
        sets.append([row[:n].tolist() for row, n in zip(table.units, table.count, strict=True)])
    return sets


def dense_softmax(text: Any, upto: int, row: int) -> np.ndarray:
    """Softmax weights of position `row` over the first `upto` positions, zero after the row: [q_heads, upto]."""
    k = text.k[0, :upto].swapaxes(0, 1).repeat(2, 0)
    dots = np.einsum("hd,hld->hl", text.q[0, row], k) / np.sqrt(8)
    dots[:, row + 1 :] = -np.inf
    weights = np.exp(dots - dots.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def weights_over(text: Any, row: int, alive: list[list[int]]) -> np.ndarray:
    """Softmax weights of each KV head's group, summed, over what is alive: [kv_heads, row + 1]."""
    out = np.zeros((2, row + 1))
    for head in range(2):
        tokens = alive[head]
        for q in text.q[0, row, 2 * head : 2 * head + 2]:
            dots = text.k[0, tokens, head] @ q / np.sqrt(8)
            out[head, tokens] += np.exp(dots - dots.max()) / np.exp(dots - dots.max()).sum()
    return out


def test_streaming_llm_keeps_the_first_tokens_and_a_sliding_window(make_text: Maker, decode: Maker) -> None:
    store = PagedKV(PagedCache(G, 20), "a", StreamingLLM(sinks=2), 6)
    for length, kept in zip(range(13, 31), kept_sets(store, decode, make_text(0, 30, G), 12), strict=True):
        assert kept == [[0, 1, *range(length - 4, length)]]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), prompt=st.integers(9, 14))
def test_h2o_evicts_the_lightest_old_token_of_each_head_at_every_step(
    seed: int, prompt: int, make_text: Maker, decode: Maker
) -> None:
    text, budget, recent = make_text(seed, 24, G), 8, 4
    ours = kept_sets(PagedKV(PagedCache(G, 20), "a", H2O(), budget), decode, text, prompt)
    mass = np.zeros((2, 24))
    for row in range(prompt):
        mass[:, :prompt] += dense_softmax(text, prompt, row).reshape(2, 2, -1).sum(1)
    alive = [list(range(prompt))] * 2
    for row, kept in zip(range(prompt, 24), ours, strict=True):
        for head in range(2):
            window = list(range(row + 1 - recent, row + 1))
            old = sorted((t for t in alive[head] if t not in window), key=lambda t: (-mass[head, t], t))
            alive[head] = sorted(old[: budget - recent] + window)
        assert kept == alive
        mass[:, : row + 1] += weights_over(text, row, alive)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), prompt=st.integers(9, 14))
def test_tova_drops_the_token_the_last_query_saw_least_in_all_heads_at_once(
    seed: int, prompt: int, make_text: Maker, decode: Maker
) -> None:
    text, budget = make_text(seed, 24, G), 8
    ours = kept_sets(PagedKV(PagedCache(G, 20), "a", TOVA(), budget), decode, text, prompt)
    last = dense_softmax(text, prompt, prompt - 1).sum(0)
    alive = list(range(prompt))
    for row, kept in zip(range(prompt, 24), ours, strict=True):
        ranked = sorted(alive, key=lambda t: (-last[t], t))
        alive = [*sorted(ranked[: budget - 1]), row]
        assert kept == [alive]
        last = weights_over(text, row, [alive, alive]).sum(0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_snapkv_keeps_what_the_last_queries_of_the_prompt_voted_for(seed: int, make_text: Maker, decode: Maker) -> None:
    text, prompt, budget, window, kernel = make_text(seed, 26, G), 24, 10, 4, 3
    kept = kept_sets(PagedKV(PagedCache(G, 20), "a", SnapKV(window, kernel), budget), decode, text, prompt)[0]
    votes = sum(dense_softmax(text, prompt, row).reshape(2, 2, -1).sum(1) for row in range(prompt - window, prompt))
    for head in range(2):
        pooled = [max(votes[head, max(0, t - 1) : t + 2]) for t in range(prompt)]
        recent = list(range(prompt + 1 - window, prompt + 1))
        ranked = sorted((t for t in range(prompt) if t not in recent), key=lambda t: (-pooled[t], t))
        assert kept[head] == sorted(ranked[: budget - window] + recent)


@settings(deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(3, 40), values=st.integers(1, 3))
def test_pqcache_ranks_exactly_when_every_part_of_a_key_has_its_own_centroid(
    seed: int, length: int, values: int
) -> None:
    keys, q = random_keys(seed, length)
    keys = np.rint(keys).clip(-values, values)[np.random.default_rng(seed).integers(0, min(length, 8), length)]
    exact = scored(OracleTopK(), keys, q)
    coded = scored(PQCache(sinks=0, recent_share=0, bits=4), keys, q)
    np.testing.assert_allclose(coded, exact, rtol=1e-4, atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), length=st.integers(3, 60))
def test_pqcache_errs_by_at_most_the_query_times_what_quantisation_lost(seed: int, length: int) -> None:
    keys, q = random_keys(seed, length)
    state = started(PQCache(sinks=0, recent_share=0, bits=2), keys)
    scored(state, keys, q)
    split = state._codebook  # [kv_heads, subspaces, centroids, width]
    for head in range(2):
        coded = np.concatenate([split[head, part][state._codes[head, part, :length]] for part in range(2)], 1)
        residual = np.linalg.norm(keys[:, head] - coded, axis=1)
        for query in q[2 * head : 2 * head + 2]:
            assert (np.abs((keys[:, head] - coded) @ query) <= np.linalg.norm(query) * residual + 1e-4).all()
        assert (state._codes[head] < 4).all()


def test_pqcache_codes_a_token_that_is_decoded_later_by_its_nearest_centroid() -> None:
    keys, q = random_keys(3, 30)
    state = started(PQCache(bits=2), keys[:29])
    scored(state, keys, q)
    state.append(29, keys[29:])
    for head in range(2):
        for part in range(2):
            assert (
                state._codes[head, part, 29]
                == nearest(keys[29:, head, 4 * part : 4 * part + 4], state._codebook[head, part])[0]
            )


@given(seed=st.integers(0, 999), count=st.integers(1, 40), size=st.integers(1, 60))
def test_kmeans_assigns_each_point_to_its_closest_centroid_and_is_exact_with_enough_of_them(
    seed: int, count: int, size: int
) -> None:
    points = np.random.default_rng(seed).integers(0, 3, (size, 2)).astype(np.float32)
    centroids = kmeans(points, count)
    member = nearest(points, centroids)
    distance = ((points[:, None] - centroids) ** 2).sum(-1)
    np.testing.assert_allclose(distance[np.arange(size), member], distance.min(1), atol=1e-5)
    assert len(centroids) <= count and (len(np.unique(points, axis=0)) > count or (distance.min(1) == 0).all())


@settings(deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(3, 60))
def test_an_inverted_file_that_visits_every_list_is_the_exact_index(seed: int, length: int) -> None:
    keys, q = random_keys(seed, length)
    everything = started(IVF(list_tokens=4, probes=length, sinks=0, recent=0), keys)
    np.testing.assert_array_equal(choose(scored(everything, keys, q), 5), choose(scored(OracleTopK(), keys, q), 5))


def test_an_inverted_file_visits_only_the_lists_it_probes() -> None:
    keys, q = random_keys(0, 200)
    state = started(IVF(list_tokens=10, probes=2, sinks=0, recent=0), keys)
    visited = (scored(state, keys, q) > -np.inf).sum()
    assert 0 < visited < 200 and state.score_bytes == (40 + visited) * 8 * 4


def test_the_query_graph_finds_what_out_of_distribution_queries_want() -> None:
    """Queries on the other side of the origin from the keys: the graph built from such queries finds 9 of 10 by
    visiting a fifth."""
    rng = np.random.default_rng(0)
    keys = (rng.standard_normal((2000, 16)) + 2).astype(np.float32)
    queries = (rng.standard_normal((600, 16)) - 2).astype(np.float32)
    graph, starts = query_graph(keys, queries[:500], 32, 32)
    found = visited = 0
    for q in queries[500:]:
        dots = search(q[None, None], keys[None], graph[None], starts[None], beam=64)[0, 0]
        seen = np.flatnonzero(np.isfinite(dots))
        np.testing.assert_allclose(dots[seen], keys[seen] @ q, rtol=1e-4, atol=1e-4)
        found += len(set(np.argsort(-(keys @ q))[:10].tolist()) & set(seen.tolist()))
        visited += len(seen)
    assert found / 1000 > 0.9 and visited / (100 * 2000) < 0.2


@given(seed=st.integers(0, 99), length=st.integers(2, 40), train=st.integers(0, 10))
def test_a_search_as_wide_as_the_graph_visits_every_key(seed: int, length: int, train: int) -> None:
    keys, q = random_keys(seed, length)
    graphs, starts = (
        np.stack(parts)
        for parts in zip(*(query_graph(keys[:, h], keys[:train, 1 - h], 8, 4) for h in (0, 1)), strict=True)
    )
    assert np.isfinite(search(q.reshape(2, 2, -1), keys.swapaxes(0, 1), graphs, starts, beam=length)).all()


@given(sizes=st.lists(st.integers(1, 9), max_size=12))
def test_a_query_sample_does_not_depend_on_the_parts_in_which_a_prompt_comes(sizes: list[int]) -> None:
    length = sum(sizes)
    q = np.arange(length, dtype=np.float32)[:, None, None]
    whole, parts, start = QuerySample(4), QuerySample(4), 0
    for size in sizes:
        parts.add(start, q[start : start + size])
        start += size
    whole.add(0, q)
    if length:
        np.testing.assert_array_equal(whole.all(), parts.all())
        assert min(length, 4) <= len(whole.all()) < 8 and (
            np.ptp(np.diff(whole.all()[:, 0, 0])) == 0 if length > 1 else True
        )


@settings(deadline=None)
@given(seed=st.integers(0, 99), length=st.integers(20, 40), more=st.integers(0, 6))
def test_retrieval_attention_with_a_wide_beam_is_the_exact_index(seed: int, length: int, more: int) -> None:
    keys, q = random_keys(seed, length + more)
    state = started(RetrievalAttention(beam=64, sinks=0, recent=0), keys[:length], budget=8)
    state.prefill(np.random.default_rng(seed).standard_normal((length, 4, 8), np.float32))
    scored(state, keys, q)
    for position in range(length, length + more):
        state.append(position, keys[position : position + 1])
    np.testing.assert_array_equal(choose(scored(state, keys, q), 8), choose(scored(OracleTopK(), keys, q), 8))


@given(seed=st.integers(0, 999), width=st.integers(1, 30), p=st.floats(0.01, 1))
def test_top_p_keeps_at_least_p_and_would_not_without_its_smallest(seed: int, width: int, p: float) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(width), 3).astype(np.float32)
    for row, kept in zip(weights.astype(np.float64), top_p(weights, p), strict=True):
        assert row[kept].sum() >= min(p, row.sum()) - 1e-5
        assert row[kept].sum() - row[kept].min() < p + 1e-5
        assert row[kept].min() >= row[~kept].max(initial=0)


def test_twilight_keeps_all_that_its_base_chose_at_p_one_and_fewer_for_a_sharper_query() -> None:
    keys, q = random_keys(1, 40)
    state = started(Twilight(OracleTopK(), p=1), keys, budget=12)
    base = choose(scored(OracleTopK(), keys, q), 12)
    np.testing.assert_array_equal(scored(state, keys, q) > -np.inf, base)
    counts = [(scored(Twilight(OracleTopK()), keys, scale * q, budget=12) > -np.inf).sum() for scale in (0.1, 3, 30)]
    assert counts[0] > counts[1] > counts[2]


def test_twilight_estimates_within_half_a_step_of_each_token() -> None:
    keys, q = random_keys(1, 40)
    state = started(Twilight(OracleTopK()), keys)
    table = np.tile(np.arange(40), (4, 1))
    exact = np.einsum("hd,hld->hl", q, keys.swapaxes(0, 1).repeat(2, 0))
    step = state._ranges[:, :40, 1].repeat(2, 0)
    assert (np.abs(state._estimate(q, table) - exact) <= np.abs(q).sum(1)[:, None] * step / 2 + 1e-4).all()


def test_infllm_stands_for_a_page_by_the_mean_of_its_most_attended_tokens() -> None:
    keys, q = random_keys(2, 24)
    state = started(
        InfLLM(representatives=2, sinks=0, local_share=0.25, voters=4), keys, budget=16
    )  # a local window of 4
    weights = np.random.default_rng(0).random((2, 24, 24), np.float32)
    state.observe(weights)
    scores = scored(state, keys, q)
    age = np.arange(24)[:, None] - np.arange(24)
    mass = np.where(age < 4, weights, 0).sum(1)
    expected = np.zeros(5)
    for page in range(5):
        for head in range(2):
            chosen = 4 * page + np.flatnonzero(best(mass[head, None, 4 * page : 4 * page + 4], 2)[0])
            expected[page] += q[2 * head : 2 * head + 2].sum(0) @ keys[chosen, head].mean(0)
    np.testing.assert_allclose(scores[0, :5], expected, rtol=1e-4)
    assert scores.shape == (1, 6) and np.isinf(scores[0, 5])


@pytest.mark.parametrize("policy", [OracleTopK(), H2O(), PQCache(), IVF(), RetrievalAttention()], ids=repr)
def test_rivals_find_a_token_that_outshines_all_others(policy: Policy, make_text: Maker, decode: Maker) -> None:
    text = make_text(4, 60, G)
    text.k[0, 20] = text.q[0, :, ::2].mean(0) * 0 + 3
    text.q[0] = np.abs(text.q[0])
    store = PagedKV(PagedCache(G, 20), "a", policy, 8)
    assert all(20 in row for sets in kept_sets(store, decode, text, 50) for row in sets)

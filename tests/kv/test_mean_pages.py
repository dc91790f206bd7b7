"""Mean pages and what it is made of: joins of query heads, int8 vectors, projections, pages of a policy's own size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies import policy_named
from kv.policies.base import LayerContext, Policy, State
from kv.policies.mean_pages import MeanPages
from kv.policies.paged import Paged
from kv.policies.projection import ModelProjection, fit, projection_bytes, read_projection
from kv.policies.quest import Quest
from kv.policies.shared import Shared, SharedState, Sharing
from kv.policies.vector_table import LEAST_SCALE, Stored, VectorTable
from kv.sequence.paged_kv import PagedKV

Maker = Callable[..., Any]
G = Geometry(num_layers=1, num_q_heads=4, num_kv_heads=2, head_dim=8, page_size=4)


def no_keys() -> np.ndarray:
    raise AssertionError("this policy reads no keys to score")


def state_of(policy: Policy, keys: np.ndarray, budget: int = 64, geometry: Geometry = G) -> State:
    state = policy.start(LayerContext(geometry, 0, budget, 4))
    state.append(0, keys)
    return state


def drawn(seed: int, length: int, geometry: Geometry = G) -> tuple[np.ndarray, np.ndarray]:
    """Keys [length, kv_heads, head_dim] and queries [q_heads, head_dim]."""
    rng = np.random.default_rng(seed)
    g = geometry
    return (
        rng.standard_normal((length, g.num_kv_heads, g.head_dim), np.float32),
        rng.standard_normal((g.num_q_heads, g.head_dim), np.float32),
    )


def scored_by_hand(keys: np.ndarray, q: np.ndarray, policy: MeanPages) -> np.ndarray:
    """Softmax shares of full pages, one page and head after another: [kv_heads, full pages]."""
    size, sub, group = policy.page_size, policy.sub_page, len(q) // keys.shape[1]
    means = keys[: len(keys) // sub * sub].reshape(-1, sub, *keys.shape[1:]).mean(1)  # [n, kv_heads, dim]
    pages = len(keys) // size
    joined = np.zeros((keys.shape[1], pages))
    for head in range(keys.shape[1]):
        scale = np.maximum(np.abs(means[:, head]).max(0) / np.float32(127), np.float32(1e-6))
        codes = np.clip(np.rint(means[:, head] / scale), -127, 127)
        for query in q[head * group : (head + 1) * group]:
            row = (query * scale).astype(ml_dtypes.bfloat16).astype(np.float64)
            dots = [max(row @ codes[page * size // sub + part] for part in range(size // sub)) for page in range(pages)]
            shares = np.exp((np.array(dots) - max(dots)) / np.sqrt(q.shape[1]))
            joined[head] += shares / shares.sum()
    return joined


@settings(deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(8, 60), sub=st.sampled_from([1, 2, 4]))
def test_a_page_is_worth_its_best_mean_in_shares_of_its_query_heads(seed: int, length: int, sub: int) -> None:
    keys, q = drawn(seed, length)
    policy = MeanPages(4, sub, sinks=0, recent=0)
    scores = state_of(policy, keys).scores(q, no_keys)
    full = length // 4
    np.testing.assert_allclose(scores[:, :full], scored_by_hand(keys, q, policy), rtol=2e-4, atol=1e-6)
    assert scores.shape == (2, -(-length // 4)) and (scores[:, full:] == np.inf).all()


@settings(deadline=None)
@given(seed=st.integers(0, 999), cuts=st.lists(st.integers(1, 59), max_size=6), back=st.integers(0, 59))
def test_scores_do_not_depend_on_the_parts_in_which_keys_come_nor_on_a_rollback(
    seed: int, cuts: list[int], back: int
) -> None:
    """While no scale is fixed: fixed ones are the prompt's."""
    keys, q = drawn(seed, 60)
    pieces = MeanPages(4, 2).start(LayerContext(G, 0, 64, 4))
    for start, stop in zip([0, *sorted({*cuts})], [*sorted({*cuts}), 60], strict=True):
        pieces.append(start, keys[start:stop])
    pieces.truncate(back, lambda: keys.swapaxes(0, 1))
    pieces.append(back, keys[back:])
    np.testing.assert_array_equal(pieces.scores(q, no_keys), state_of(MeanPages(4, 2), keys).scores(q, no_keys))


def test_the_first_and_the_current_page_are_kept_as_far_as_the_budget_holds_them() -> None:
    keys, q = drawn(0, 64)
    for budget, kept in ((4, {15}), (8, {0, 15}), (16, {0, 15})):
        scores = state_of(MeanPages(4, 2), keys, budget).scores(q, no_keys)
        assert {*np.flatnonzero((scores == np.inf).all(0))} == kept


def test_a_channel_that_is_zero_in_every_key_scores_without_a_warning() -> None:
    """Some of Gemma's key channels are: a scale of zero would be 0 / 0."""
    keys, q = drawn(1, 40)
    keys[..., 3] = 0
    without, other = state_of(MeanPages(4, 2), keys).scores(q, no_keys), q.copy()
    other[:, 3] = 100
    np.testing.assert_array_equal(without, state_of(MeanPages(4, 2), keys).scores(other, no_keys))


@settings(deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 30), more=st.integers(0, 9))
def test_int8_vectors_err_by_at_most_half_a_step_and_clip_what_comes_later(seed: int, count: int, more: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((2, 8, count + more)).astype(np.float32)
    table = VectorTable(2, 8, Stored.INT8)
    table.put(0, vectors[..., :count])
    table.settle()
    table.put(count, vectors[..., count:])
    scale = np.maximum(np.abs(vectors[..., :count]).max(2) / 127, LEAST_SCALE)
    limit = 127 * scale[..., None]
    error = np.abs(table.vectors * scale[..., None] - vectors.clip(-limit, limit))
    assert table.vectors.dtype == np.int8 and (error <= scale[..., None] / 2 + 1e-6).all()
    assert table.num_bytes(4) == 16 * (count + more) + 4 * 16


class Fixed(State):
    """Scores that a test gives, [q_heads, units]."""

    given: np.ndarray

    def scores(self, q: np.ndarray, read_keys: object) -> np.ndarray:
        return self.given


def joined(scores: np.ndarray, sharing: Sharing) -> np.ndarray:
    base = Fixed(LayerContext(G, 0, 64, 4))
    base.given = scores.astype(np.float32)
    return SharedState(base, sharing, 4).scores(np.zeros((4, 8), np.float32), no_keys)


@given(seed=st.integers(0, 999), units=st.integers(1, 20))
def test_a_softmax_join_adds_up_to_the_group_and_ignores_a_heads_offset(seed: int, units: int) -> None:
    scores = 5 * np.random.default_rng(seed).standard_normal((4, units))
    shares = joined(scores, Sharing.KV_SOFTMAX)
    np.testing.assert_allclose(shares.sum(1), 2, rtol=1e-5)
    offset = np.array([100, -3, 0, 7])[:, None]
    np.testing.assert_allclose(joined(scores + offset, Sharing.KV_SOFTMAX), shares, rtol=1e-3, atol=1e-6)


def test_one_sharp_head_outvotes_a_flat_one_with_larger_scores() -> None:
    sharp, flat = np.array([0.0, 0, 40, 0, 0]), np.array([61.0, 60, 60, 60, 60])
    scores = np.stack([sharp, flat, sharp, flat])
    assert (joined(scores, Sharing.KV_MAX).argmax(1) == 0).all()
    assert (joined(scores, Sharing.KV_SOFTMAX).argmax(1) == 2).all()
    assert (joined(scores, Sharing.KV_GAP) == [[0, -1, 0, -1, -1]] * 2).all()


@pytest.mark.parametrize("sharing", [Sharing.KV_SOFTMAX, Sharing.KV_GAP])
def test_a_join_keeps_what_must_be_kept_and_what_must_not(sharing: Sharing) -> None:
    scores = np.array([[np.inf, 1, 2, -np.inf], [3, 1, 5, -np.inf], [np.inf] * 4, [-np.inf] * 4])
    result = joined(scores, sharing)
    assert result[0, 0] == np.inf and np.isfinite(result[0, 1:3]).all() and (result[1] == np.inf).all()
    assert result[0, 3] == -np.inf


def test_one_choice_by_the_mean_query_is_what_every_head_asks_for_on_average() -> None:
    keys, q = drawn(3, 40)
    chosen = state_of(Shared(Quest(), Sharing.LAYER_MEAN_QUERY), keys).scores(q, no_keys)
    mean = q.reshape(2, 2, 8).mean(1).repeat(2, 0)
    np.testing.assert_allclose(chosen, state_of(Quest(), keys).scores(mean, no_keys).sum(0, keepdims=True), rtol=1e-5)


@settings(deadline=None)
@given(seed=st.integers(0, 99), kept=st.integers(1, 8))
def test_no_pair_of_projections_changes_a_score_less(seed: int, kept: int) -> None:
    """Of rank `kept`, on the moments that it was fitted to: not the principal axes of keys, nor a random pair."""
    rng = np.random.default_rng(seed)
    queries, keys = (rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8)) for _ in range(2))
    keys -= keys.mean(0)
    moment, covariance = queries.T @ queries / 200, keys.T @ keys / 200

    def lost(query: np.ndarray, key: np.ndarray) -> float:
        """E[(q.k - q.k as projected)^2]."""
        error = np.eye(8) - query @ key.T
        return float(np.trace(error.T @ moment @ error @ covariance))

    query, key, variances = fit(moment, covariance)
    assert np.isclose(variances.sum(), np.trace(moment @ covariance)) and (np.diff(variances) <= 1e-9).all()
    ours = lost(query[:, :kept].astype(np.float64), key[:, :kept].astype(np.float64))
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :kept]
    other = np.linalg.qr(rng.standard_normal((8, 8)))[0][:, :kept]
    whole = np.trace(moment @ covariance)
    assert ours <= lost(axes, axes) + 1e-5 * whole and ours <= lost(other, other) + 1e-5 * whole
    if kept == 8:
        assert ours < 1e-5 * whole


def calibration(path: Path, layers: int = 1, dim: int = 8) -> Path:
    """A file of a random model's projections."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((2, layers, 2, 50, dim))
    moments = samples.swapaxes(-1, -2) @ samples / 50
    path.write_bytes(projection_bytes(ModelProjection("a model", *fit(*moments)[:2])))
    return path


def test_the_whole_rank_scores_as_no_projection_does(tmp_path: Path) -> None:
    path = calibration(tmp_path / "keys.safetensors")
    keys, q = drawn(5, 60)
    whole = MeanPages(4, 2, rank=8, calibration=str(path))
    ours, plain = (state_of(policy, keys).scores(q, no_keys) for policy in (whole, MeanPages(4, 2)))
    np.testing.assert_allclose(ours, plain, rtol=0.1)
    assert state_of(MeanPages(4, 2, rank=2, calibration=str(path)), keys).metadata_bytes < (
        state_of(whole, keys).metadata_bytes
    )


def test_a_calibration_that_is_anothers_or_damaged_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = calibration(tmp_path / "keys.safetensors")
    with pytest.raises(KVError, match=r"was made for a model of 1 x 2 x 8 .*, this one has 3 x 2 x 8: make one"):
        read_projection(str(path), Geometry(3, 4, 2, 8))
    with pytest.raises(KVError, match="a rank of 9: a head of 8 elements has at most as many"):
        state_of(MeanPages(4, 2, rank=9, calibration=str(path)), drawn(0, 8)[0])
    damaged = {
        "cut": path.read_bytes()[:-5],
        "none": b"",
        "other": b"\x00" * 64,
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(KVError, match=f"{name} is damaged, or no calibration"):
            read_projection(str(tmp_path / name), G)
    save_file({"query": np.zeros(3, np.float32)}, tmp_path / "foreign")
    with pytest.raises(KVError, match="foreign is no calibration of keys: make one with npusim calibrate"):
        read_projection(str(tmp_path / "foreign"), G)
    with pytest.raises(KVError, match=r"cannot read the calibration .*absent: No such file"):
        read_projection(str(tmp_path / "absent"), G)
    bad = ModelProjection("", np.full((1, 2, 8, 8), np.nan, np.float32), np.zeros((1, 2, 8, 8), np.float32))
    (tmp_path / "nan").write_bytes(projection_bytes(bad))
    with pytest.raises(KVError, match="nan holds NaN or infinity"):
        read_projection(str(tmp_path / "nan"), G)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 99),
    own=st.sampled_from([2, 4, 8, 16]),
    cached=st.sampled_from([2, 4, 8, 16]),
    sharing=st.sampled_from([Sharing.KV_MAX, Sharing.LAYER, Sharing.Q_HEAD]),
)
def test_pages_of_a_policys_own_size_give_what_a_cache_of_that_size_gives(
    seed: int, own: int, cached: int, sharing: Sharing, make_text: Maker, decode: Maker
) -> None:
    """Bit for bit, with the same bytes and descriptors, whatever the cache's pages are. Only the longest run may
    differ: of a page that the sequence ends in, smaller pages hold less."""
    text, policy = make_text(seed, 50), Shared(Quest(), sharing)
    runs = []
    for size, under in ((own, policy), (cached, Paged(policy, own))):
        geometry = Geometry(num_layers=2, num_q_heads=4, num_kv_heads=2, head_dim=8, page_size=size)
        store = PagedKV(PagedCache(geometry, 200 // size), "a", under, 16)
        outs = [step.out for step in decode(store, text, 40)]
        traffic = [replace(layer, longest_run=0) for layer in store.last_traffic if layer]
        runs.append((outs, traffic, [table.units for table in store.last_table if table]))
    for ours, theirs in zip(*runs, strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_equal(mine, other)


def test_pages_that_do_not_divide_are_refused() -> None:
    with pytest.raises(KVError, match="pages of 6 tokens in a cache whose pages have 4: one must be a multiple"):
        state_of(policy_named("quest:page_size=6"), drawn(0, 8)[0])
    with pytest.raises(KVError, match="a budget of 4 tokens is below one page of 8"):
        PagedKV(PagedCache(G, 8), "a", policy_named("mean_pages"), 4)

"""Quest's page boxes, and their sharing between heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies.arkvale import ArkVale
from kv.policies.base import LayerContext
from kv.policies.quest import PageBoxes, Quest
from kv.policies.shared import Shared, Sharing
from kv.policies.table import best, choose, table_of
from kv.sequence.paged_kv import PagedKV

Maker = Callable[..., Any]
ROUNDING = 1e-4


def state_of(policy: Any, geometry: Geometry, keys: np.ndarray, budget: int = 16) -> Any:
    """The state after keys [L, kv_heads, dim] in one append."""
    state = policy.start(LayerContext(geometry, 0, budget, 4))
    state.append(0, keys)
    return state


def random_case(seed: int, length: int, page_size: int, scale: float = 1) -> tuple[Geometry, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    geometry = Geometry(1, 4, 2, 8, page_size)
    keys = (
        scale * rng.standard_normal((length, 2, 8)) * rng.uniform(0.1, 4, 8)
    )  # a few outlier channels, as in real keys
    return geometry, keys.astype(np.float32), rng.standard_normal((4, 8), np.float32)


def no_keys() -> np.ndarray:
    """For policies that need no key to score."""
    raise AssertionError("keys were read")


def dots_by_page(geometry: Geometry, keys: np.ndarray, q: np.ndarray, fill: float) -> np.ndarray:
    """q.k in float64 [q_heads, pages, page_size], `fill` past the end."""
    pages = geometry.pages(len(keys))
    padded = np.full((geometry.num_q_heads, pages * geometry.page_size), fill, np.float64)
    padded[:, : len(keys)] = np.einsum(
        "hd,hld->hl", q.astype(np.float64), keys.swapaxes(0, 1).repeat(geometry.group, 0)
    )
    return padded.reshape(geometry.num_q_heads, pages, -1)


cases = given(seed=st.integers(0, 999), length=st.integers(1, 50), page_size=st.integers(1, 16))


@cases
def test_a_page_score_bounds_every_dot_product_in_the_page(seed: int, length: int, page_size: int) -> None:
    geometry, keys, q = random_case(seed, length, page_size)
    state = state_of(Quest(), geometry, keys)
    assert (state.upper(q) >= dots_by_page(geometry, keys, q, -np.inf).max(-1) - ROUNDING).all()


@cases
def test_the_three_forms_of_the_score_agree(seed: int, length: int, page_size: int) -> None:
    geometry, keys, q = random_case(seed, length, page_size)
    state = state_of(Quest(), geometry, keys)
    high, low = state.boxes.repeat(geometry.group, 0).transpose(1, 0, 3, 2).astype(np.float64)
    query = q[:, None].astype(np.float64)
    by_corner = np.maximum(query * high, query * low).sum(-1)
    by_centre = (query * (high + low) / 2 + np.abs(query) * (high - low) / 2).sum(-1)
    np.testing.assert_allclose(state.upper(q), by_corner, atol=ROUNDING)
    np.testing.assert_allclose(by_centre, by_corner, atol=1e-9)


@given(seed=st.integers(0, 999), length=st.integers(1, 20))
def test_a_page_of_one_token_has_no_slack(seed: int, length: int) -> None:
    geometry, keys, q = random_case(seed, length, 1)
    np.testing.assert_allclose(
        state_of(Quest(), geometry, keys).upper(q), dots_by_page(geometry, keys, q, 0)[..., 0], atol=ROUNDING
    )


@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=8), page_size=st.integers(1, 8))
def test_boxes_grown_in_pieces_are_those_of_the_whole_bitwise(seed: int, cuts: list[int], page_size: int) -> None:
    geometry, keys, _ = random_case(seed, sum(cuts), page_size)
    pieces = Quest().start(LayerContext(geometry, 0, 16, 4))
    for stop, size in zip(np.cumsum(cuts).tolist(), cuts, strict=True):
        pieces.append(stop - size, keys[stop - size : stop])
    assert isinstance(pieces, PageBoxes)
    np.testing.assert_array_equal(pieces.boxes, state_of(Quest(), geometry, keys).boxes)


@given(seed=st.integers(0, 99), length=st.integers(2, 30), data=st.data())
def test_a_rollback_leaves_the_bound_safe(seed: int, length: int, data: st.DataObject) -> None:
    geometry, keys, q = random_case(seed, length, 4)
    state = state_of(Quest(), geometry, keys)
    cut = data.draw(st.integers(1, length - 1))
    state.truncate(cut, no_keys)
    again = np.concatenate([keys[:cut], 3 * keys[: length - cut]])
    state.append(cut, again[cut:])
    assert (state.upper(q) >= dots_by_page(geometry, again, q, -np.inf).max(-1) - ROUNDING).all()


@cases
def test_arkvale_scores_full_pages_no_higher_than_quest(seed: int, length: int, page_size: int) -> None:
    geometry, keys, q = random_case(seed, length, page_size)
    full = length // page_size
    scores = state_of(ArkVale(sinks=0, window=0), geometry, keys).scores(q, no_keys)[0, :full]
    assert (scores <= state_of(Quest(), geometry, keys).upper(q)[:, :full].sum(0) + ROUNDING).all()


@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=8), page_size=st.integers(1, 8))
def test_arkvale_digests_do_not_show_the_sizes_of_the_appends(seed: int, cuts: list[int], page_size: int) -> None:
    geometry, keys, q = random_case(seed, sum(cuts), page_size)
    pieces = ArkVale().start(LayerContext(geometry, 0, 16, 4))
    for stop, size in zip(np.cumsum(cuts).tolist(), cuts, strict=True):
        pieces.append(stop - size, keys[stop - size : stop])
    np.testing.assert_array_equal(pieces.scores(q, no_keys), state_of(ArkVale(), geometry, keys).scores(q, no_keys))


@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 4),
    units=st.integers(1, 30),
    count=st.integers(0, 35),
    levels=st.integers(1, 9),
)
def test_the_best_are_the_highest_scores_and_ties_go_to_the_lowest_index(
    seed: int, rows: int, units: int, count: int, levels: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (rows, units)).astype(np.float32)
    scores[scores == levels - 1] = -np.inf
    for row, kept in zip(scores, best(scores, count), strict=True):
        ranked = [i for i in sorted(range(units), key=lambda i: (-row[i], i)) if row[i] > -np.inf]
        assert np.flatnonzero(kept).tolist() == sorted(ranked[:count])


@cases
def test_the_union_holds_what_each_query_head_would_choose(seed: int, length: int, page_size: int) -> None:
    geometry, keys, q = random_case(seed, length, page_size)
    budget = max(page_size, length // 3)
    count = -(-budget // page_size)
    alone = choose(state_of(Quest(), geometry, keys, budget).scores(q, no_keys), count)
    shared = state_of(Shared(Quest(), Sharing.UNION), geometry, keys, budget)
    union = choose(shared.scores(q, no_keys), shared.width(count, alone.shape[1]))
    np.testing.assert_array_equal(union, alone.reshape(2, 2, -1).any(1))


@cases
def test_the_maximum_over_a_group_is_still_a_bound_for_each_of_its_heads(
    seed: int, length: int, page_size: int
) -> None:
    geometry, keys, q = random_case(seed, length, page_size)
    shared = state_of(Shared(Quest(), Sharing.KV_MAX), geometry, keys).scores(q, no_keys)
    assert (shared.repeat(2, 0) >= state_of(Quest(), geometry, keys).upper(q)).all()


@settings(deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(8, 60), needle=st.floats(0, 0.99), page_size=st.integers(2, 8))
def test_a_planted_needle_is_found_with_a_budget_of_two_pages(
    seed: int, length: int, needle: float, page_size: int
) -> None:
    geometry, keys, q = random_case(seed, length, page_size, scale=0.1)
    place = int(needle * length)
    keys[place] = 30 * q.reshape(2, 2, 8)[:, 0]
    one_head = np.repeat(q.reshape(2, 2, 8)[:, 0], 2, axis=0)
    kept = choose(state_of(Quest(), geometry, keys).scores(one_head, no_keys), 2)
    assert kept[:, place // page_size].all()


@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 32, 33, 50, 64, 65])
def test_pages_are_counted_by_ceilings_so_that_none_is_dropped_within_the_budget(
    length: int, make_text: Maker, decode: Maker
) -> None:
    """Quest issue 22: 50 tokens under a budget of 64 attended to 3 of 4 pages."""
    geometry = Geometry(1, 2, 2, 4, 16)
    store = PagedKV(PagedCache(geometry, 8), "a", Quest(), 64)
    steps = list(decode(store, make_text(0, length, geometry), length - 1))
    assert steps[-1].selection.k.shape[1] == (length if length <= 64 else 64)
    assert store.activity.sparse_steps == (length > 64)


def test_a_table_is_padded_to_its_width() -> None:
    table = table_of(np.array([[True, False, True, True], [False, False, False, True]]), 3)
    assert table.units.tolist() == [[0, 2, 3], [3, -1, -1]] and table.count.tolist() == [3, 1]

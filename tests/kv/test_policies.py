"""Properties of every policy in POLICIES and of every wrapper around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import BF16, DTYPES, FLOAT32
from kv.policies import POLICIES, policy_named
from kv.policies.arkvale import ArkVale
from kv.policies.base import Policy, Unit
from kv.policies.full import Full
from kv.policies.mean_pages import MeanPages
from kv.policies.paged import Paged
from kv.policies.per_layer import PerLayer
from kv.policies.pqcache import PQCache
from kv.policies.protected import Protected
from kv.policies.quest import Quest
from kv.policies.shared import Shared, Sharing
from kv.policies.twilight import Twilight
from kv.sequence.paged_kv import PagedKV

Maker = Callable[..., Any]
SHARED = [Shared(Quest(), sharing) for sharing in Sharing if sharing is not Sharing.KV_MAX]
WRAPPED = [
    *SHARED,
    *(Protected(policy_named(name), 2, 3) for name in ("snapkv", "infllm", "twilight")),
    PerLayer(policy_named("h2o"), 1),
    PerLayer(Shared(Protected(Quest(), 2, 3), Sharing.KV_SUM), 1),
]
OWN_PAGES = [Paged(Shared(Quest(), Sharing.KV_MAX), 8), Paged(policy_named("arkvale:stored=int8"), 8), MeanPages(4, 2)]
EVERY: list[Policy] = [*POLICIES, *WRAPPED, *OWN_PAGES]

each_policy = pytest.mark.parametrize("policy", EVERY, ids=repr)


def fitting(policy: Policy, budget: int) -> int:
    """The budget, or one page where that is more."""
    return max(budget, policy.own_page_size or 0)


def new_store(
    geometry: Geometry, policy: Policy, budget: int | None, dtype: np.dtype[Any] = FLOAT32, pages: int = 40
) -> PagedKV:
    return PagedKV(PagedCache(geometry, pages, dtype), "a", policy, budget)


@each_policy
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 99), prompt=st.integers(1, 20), more=st.integers(1, 12), dtype=st.sampled_from(DTYPES))
def test_a_budget_of_the_whole_context_is_bitwise_dense(
    policy: Policy,
    seed: int,
    prompt: int,
    more: int,
    dtype: np.dtype[Any],
    geometry: Geometry,
    make_text: Maker,
    decode: Maker,
) -> None:
    if not policy.dense_within_budget:
        assert isinstance(policy, Twilight) or policy.name == "twilight"
        return
    text = make_text(seed, prompt + more)
    dense = decode(new_store(geometry, Full(), None, dtype), text, prompt)
    budget = fitting(policy, max(text.length, 5))
    for ours, theirs in zip(decode(new_store(geometry, policy, budget, dtype), text, prompt), dense, strict=True):
        np.testing.assert_array_equal(ours.out, theirs.out)


@each_policy
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 99), prompt=st.integers(1, 30), budget=st.integers(5, 24))
def test_a_selection_is_a_fixed_table_ascending_padded_and_within_the_budget(
    policy: Policy, seed: int, prompt: int, budget: int, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    text, budget = make_text(seed, prompt + 8), fitting(policy, budget)
    store = new_store(geometry, policy, budget)
    unit = (policy.own_page_size or geometry.page_size) if policy.unit is Unit.PAGE else 1
    count = -(-budget // unit)
    union = isinstance(policy, Shared) and policy.sharing is Sharing.UNION
    for step in decode(store, text, prompt):
        table = store.last_table[step.layer]
        if table is None:
            continue
        num_units = -(-(step.position + 1) // unit)
        assert table.units.shape[1] == min(num_units, 1 + geometry.group * (count - 1) if union else count)
        for row, kept in zip(table.units, table.count, strict=True):
            assert (row[kept:] == -1).all() and (np.diff(row[:kept]) > 0).all()
            assert row[kept - 1] == num_units - 1, "the page or token being computed is always in"


@pytest.mark.slow
@each_policy
@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 99),
    prompt=st.integers(2, 24),
    budget=st.integers(5, 16),
    cut=st.integers(1, 23),
)
def test_no_policy_can_attend_to_a_freed_or_foreign_page(
    policy: Policy,
    seed: int,
    prompt: int,
    budget: int,
    cut: int,
    geometry: Geometry,
    make_text: Maker,
    decode: Maker,
) -> None:
    """A run in a used pool, its free pages full of NaN and another sequence beside it, is bitwise the run in a fresh
    pool."""
    text, retry, other = make_text(seed, 30), make_text(seed + 1, 30), make_text(seed + 2, 30)
    cut, budget = min(cut, prompt), fitting(policy, budget)

    def outputs(used: bool) -> list[np.ndarray]:
        store = new_store(geometry, policy, budget)
        cache = store.cache
        cache.pool.poison(np.arange(1, 41))
        neighbour, gone = PagedKV(cache, "neighbour"), PagedKV(cache, "gone")
        if used:
            list(decode(gone, other, 30))
            list(decode(neighbour, other, 9, 9))
            cache.free("gone")
            cache.pool.poison(np.asarray(cache.manager.allocator.free_order()))
        first = list(decode(store, text, prompt, 28))
        store.truncate(cut)
        if used:
            cache.pool.poison(np.asarray(cache.manager.allocator.free_order()))
            list(decode(neighbour, other, 9, 20))
        evicted = store.state(0).pruned or store.state(1).pruned
        prompt_after = 0 if evicted else cut  # what was evicted stays evicted, so the rest must come token by token
        return [step.out for step in first] + [step.out for step in decode(store, retry, prompt_after, 28)]

    fresh = outputs(used=False)
    assert np.isfinite(fresh).all()
    np.testing.assert_array_equal(outputs(used=True), fresh)


@each_policy
def test_a_fork_goes_on_as_its_parent_would_have(
    policy: Policy, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    text, other = make_text(5, 30), make_text(6, 30)
    alone = [step.out for step in decode(new_store(geometry, policy, 8), text, 20)]
    parent = new_store(geometry, policy, 8)
    before = [step.out for step in decode(parent, text, 20, 23)]
    child = parent.fork("b")
    list(decode(parent, other, 20))
    np.testing.assert_array_equal(before + [step.out for step in decode(child, text, 20)], alone)


@each_policy
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_sparse_path_is_taken_exactly_when_something_is_left_out(
    policy: Policy, dtype: np.dtype[Any], geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    store = new_store(geometry, policy, 8, dtype)
    left_out = 0
    for step in decode(store, make_text(1, 30), 20):
        kept = np.ones(step.selection.positions.shape) if step.selection.valid is None else step.selection.valid
        left_out += bool((np.atleast_2d(kept).sum(1) < step.position + 1).any())
    assert (store.activity.decode_steps, store.activity.sparse_steps) == (20, left_out)
    assert (left_out == 0) == (policy.name == "full")


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.evicts], ids=repr)
def test_what_was_evicted_never_comes_back_and_a_second_prefill_is_refused(
    policy: Policy, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    text = make_text(2, 40)
    store = new_store(geometry, policy, 8)
    alive: dict[tuple[int, int], set[int]] = {}
    for step in decode(store, text, 20):
        table = store.last_table[step.layer]
        assert table is not None
        for row, units in enumerate(table.units):
            kept = set(units.tolist())
            assert kept - alive.get((step.layer, row), kept) <= {step.position}
            alive[step.layer, row] = kept
    store.append(0, text.k[0, :2], text.v[0, :2])
    with pytest.raises(KVError, match="feed them one by one"):
        store.select(0, text.q[0, :2])


@each_policy
def test_attending_head_by_head_is_selecting_and_attending(
    policy: Policy, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    text = make_text(9, 30)
    whole, by_head = new_store(geometry, policy, 10), new_store(geometry, policy, 10)
    for step in decode(whole, text, 20):
        if by_head.length < 20:
            list(decode(by_head, text, 20, 20))
        span = slice(step.position, step.position + 1)
        by_head.append(step.layer, text.k[step.layer, span], text.v[step.layer, span])
        out = by_head.attend(step.layer, step.q)
        np.testing.assert_allclose(out, step.out, rtol=1e-5, atol=1e-6)


@each_policy
def test_padding_does_not_matter(policy: Policy, geometry: Geometry, make_text: Maker, decode: Maker) -> None:
    for step in decode(new_store(geometry, policy, 10), make_text(3, 33), 22):
        valid = step.selection.valid
        if valid is None:
            continue
        mask = np.broadcast_to(np.atleast_2d(valid), step.selection.k.shape[:2])
        assert (
            np.isfinite(step.out).all()
            and (np.atleast_2d(step.selection.positions)[~np.atleast_2d(valid)] != step.position).all()
        )
        assert (mask.sum(1) > 0).all()


def test_metadata_follows_what_is_stored(geometry: Geometry, make_text: Maker, decode: Maker) -> None:
    """Boxes must bound the keys that attention will read, which bf16 rounds."""
    store = new_store(geometry, Quest(), 8, BF16)
    for step in decode(store, make_text(8, 30), 18):
        keys = store.cache.read("a", step.layer, 0, step.position + 1)[0]
        boxes = store.state(step.layer).boxes
        for page in range(boxes.shape[-1]):
            span = keys[:, 4 * page : 4 * page + 4]
            np.testing.assert_array_equal(boxes[..., page], np.stack([span.max(1), span.min(1)], 1))


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda g: new_store(g, Quest(), 3), "below one page of 4"),
        (lambda g: new_store(g, Protected(Quest(), 4, 5), 8), "exceed the budget"),
        (lambda g: policy_named("nobody"), "choose one of full, random"),
        (lambda g: Twilight(p=0), "above 0"),
        (lambda g: Twilight(policy_named("h2o")), "keeps everything"),
        (lambda g: new_store(g, Shared(policy_named("h2o"), Sharing.UNION), 8), "union"),
    ],
)
def test_impossible_settings_are_refused(act: Maker, message: str, geometry: Geometry) -> None:
    with pytest.raises(KVError, match=message):
        act(geometry)


def test_bad_keys_are_refused_and_nothing_changes(geometry: Geometry, make_text: Maker) -> None:
    store = new_store(geometry, Quest(), 8, pages=2)
    text = make_text(0, 20)
    bad = text.k[0, :3].copy()
    bad[1, 0, 0] = np.nan
    for k, v, message in (
        (bad, text.v[0, :3], "NaN"),
        (text.k[0, :3], text.v[0, :2], "must both be"),
        (text.k[0, :9], text.v[0, :9], "are free"),
    ):
        with pytest.raises(KVError, match=message):
            store.append(0, k, v)
        assert store.length == 0 and store.cache.manager.allocator.num_free == 2


def test_a_policy_is_named_with_its_settings() -> None:
    assert policy_named("twilight:p=0.95") == Twilight(Quest(), 0.95)
    assert policy_named("quest:sharing=layer") == Shared(Quest(), Sharing.LAYER)
    assert policy_named("quest:page_size=8:sinks=16") == Paged(Protected(policy_named("quest"), 16, 0), 8)
    assert policy_named("arkvale:sinks=2") == ArkVale(sinks=2), "its own sinks, which are pages"
    assert policy_named("pqcache:bits=4:sinks=0") == PQCache(bits=4, sinks=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("quests", "there is no policy 'quests': choose one of full, random"),
        ("twilight:q=1", "twilight has no setting 'q': it has p"),
        ("full:p=1", "full has no setting 'p': it has page_size, recent, sinks"),
        ("pqcache:bits=six", "bits of pqcache is 'six': it must be a number, as 6"),
        ("quest:sharing=all", "must be q_head or kv_max or kv_sum or kv_mean or kv_softmax or kv_gap or layer"),
        ("twilight:p=2", "p is 2.0: the kept share"),
        ("oracle:page_size=8", "oracle chooses single tokens, so it has no page size"),
        ("mean_pages:sub_page=3", "sub_page is 3: it must divide the page of 8 tokens"),
        ("mean_pages:rank=32", "a projection needs both"),
        ("mean_pages:sharing=layer", "sharing of mean_pages is layer: it must be one of kv_softmax, kv_gap, kv_max"),
    ],
)
def test_a_setting_that_is_none_is_refused_in_a_sentence(spec: str, message: str) -> None:
    with pytest.raises(KVError, match=message):
        policy_named(spec)

"""One sequence through what happens to its pages: prefix hits, forks of reserved slots."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import DTYPES
from kv.policies import POLICIES, policy_named
from kv.policies.base import Policy
from kv.policies.quest import Quest
from kv.policies.several import Several
from kv.policies.tova import TOVA
from kv.sequence.paged_kv import PagedKV

Maker = Callable[..., Any]
TOKENS = list(range(30))
of_keys_alone = pytest.mark.parametrize(
    "policy",
    [policy for policy in POLICIES if policy.name in ("full", "random", "oracle", "quest", "arkvale", "twilight")],
    ids=lambda policy: policy.name,
)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@of_keys_alone
@each_dtype
def test_a_prefix_hit_goes_on_as_if_it_had_been_computed(
    policy: Policy, dtype: np.dtype[Any], geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    """For policies whose state follows from the stored keys; what others observed, learnt or lost is not shared with
    the pages."""
    text = make_text(0, 30)
    cache = PagedCache(geometry, 40, dtype)
    first = PagedKV(cache, "first", policy, 8)
    outputs = [step.out for step in decode(first, text, 0) if step.position >= 28]
    cache.publish("first", TOKENS)
    assert cache.allocate("second", TOKENS) == 28
    second = PagedKV(cache, "second", policy, 8, computed=28)
    again = [step.out for step in decode(second, text, 0)]
    np.testing.assert_array_equal(again, outputs)


def test_reserved_slots_are_not_shared_by_a_fork(geometry: Geometry, make_text: Maker, decode: Maker) -> None:
    text, other = make_text(2, 30), make_text(3, 30)
    cache = PagedCache(geometry, 40)
    cache.allocate("a", TOKENS)
    parent = PagedKV(cache, "a")
    before = [step.out for step in decode(parent, text, 10, 14)]
    child = parent.fork("b")
    list(decode(parent, other, 10))
    alone = [step.out for step in decode(PagedKV(PagedCache(geometry, 40), "c"), text, 10)]
    np.testing.assert_array_equal(before + [step.out for step in decode(child, text, 10)], alone)


def test_a_fork_in_the_middle_of_a_forward_pass_is_refused(geometry: Geometry, make_text: Maker) -> None:
    text = make_text(0, 4)
    store = PagedKV(PagedCache(geometry, 4), "a")
    store.append(0, text.k[0], text.v[0])
    with pytest.raises(KVError, match="middle of a forward pass"):
        store.fork("b")


def test_a_fork_under_a_budget_that_is_refused_takes_no_page(
    geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    store = PagedKV(PagedCache(geometry, 40), "a", Several((Quest(),)), 8)
    list(decode(store, make_text(0, 10), 10))
    used = store.cache.manager.allocator.num_used
    with pytest.raises(KVError, match="below one page"):
        store.under("b", Quest(), 3)
    assert (store.cache.manager.allocator.num_used, list(store.cache.manager.tables)) == (used, ["a"])


@pytest.mark.parametrize("ran_under", [Quest(), Several((Quest(),))], ids=["alone", "among others"])
def test_going_on_under_a_policy_that_did_not_see_the_prompt_is_refused(
    ran_under: Policy, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    store = PagedKV(PagedCache(geometry, 40), "a", ran_under, 8)
    list(decode(store, make_text(0, 10), 10))
    with pytest.raises(KVError, match="tova did not see the prompt: store it under Several, with tova among them"):
        store.under("b", TOVA(), 8)
    assert list(store.cache.manager.tables) == ["a"]


def test_a_sequence_that_nobody_holds_is_freed_without_the_garbage_collector(
    geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    """States refer to no store, so the many forks of an evaluation do not pile up."""
    gc.disable()
    try:
        store = PagedKV(PagedCache(geometry, 40), "a", Several(POLICIES), 8)
        list(decode(store, make_text(0, 20), 15))
        child = store.under("b", policy_named("arkvale"), 8)
        held = [weakref.ref(thing) for thing in (store, child, store.state(0), child.state(0))]
        del store, child
        assert [ref() for ref in held] == [None] * 4
    finally:
        gc.enable()

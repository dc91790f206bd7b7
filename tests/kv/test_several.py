"""A prompt that is stored once for several policies leaves each as if it had been alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies import POLICIES
from kv.policies.base import Policy
from kv.policies.per_layer import PerLayer
from kv.policies.quest import Quest
from kv.policies.several import Several
from kv.policies.shared import Shared, Sharing
from kv.sequence.paged_kv import PagedKV

Maker = Callable[..., Any]
MEMBERS: tuple[Policy, ...] = (*POLICIES, Shared(Quest(), Sharing.UNION), PerLayer(Quest(), 1))


def stored(store: PagedKV, text: Any, cuts: list[int], decode: Maker) -> PagedKV:
    """The store with its prompt, in parts of two tokens or more."""
    for cut in cuts:
        list(decode(store, text, cut, stop=cut))
    return store


@pytest.mark.slow
@pytest.mark.parametrize("policy", MEMBERS, ids=lambda policy: f"{type(policy).__name__}-{policy.name}")
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 99), budgets=st.lists(st.integers(8, 40), min_size=2, max_size=2), early=st.booleans())
def test_going_on_under_a_member_is_the_same_bitwise_as_having_run_it_alone(
    policy: Policy, seed: int, budgets: list[int], early: bool, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    text, cuts = make_text(seed, 40), [9, 11, 30]
    together = stored(PagedKV(PagedCache(geometry, 60), "prompt", Several(MEMBERS), max(budgets)), text, cuts, decode)
    if early:
        together.learn()
    for budget in budgets:
        alone = stored(PagedKV(PagedCache(geometry, 20), "alone", policy, budget), text, cuts, decode)
        if early:
            alone.learn()
        lane = together.under(budget, policy, budget)
        for ours, theirs in zip(decode(lane, text, 30), decode(alone, text, 30), strict=True):
            np.testing.assert_array_equal(ours.out, theirs.out)
            np.testing.assert_array_equal(ours.selection.positions, theirs.selection.positions)
        assert lane.activity == alone.activity
        assert [step and step.total_bytes for step in lane.last_traffic] == [
            step and step.total_bytes for step in alone.last_traffic
        ]
        together.cache.free(budget)


def test_several_policies_attend_densely_themselves(geometry: Geometry, make_text: Maker, decode: Maker) -> None:
    store = PagedKV(PagedCache(geometry, 20), "prompt", Several(MEMBERS), 8)
    list(decode(store, make_text(0, 30), 20))
    assert store.activity.decode_steps > 0 == store.activity.sparse_steps


def held_bytes(thing: Any, seen: set[int]) -> int:
    """Of all arrays that an object of a policy holds, whole where it holds a view."""
    while isinstance(thing, np.ndarray) and isinstance(thing.base, np.ndarray):
        thing = thing.base
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, list | tuple):
        return sum(held_bytes(part, seen) for part in thing)
    inside = vars(thing) if type(thing).__module__.startswith("kv.policies") else {}
    return sum(held_bytes(part, seen) for name, part in inside.items() if name != "context")


@pytest.mark.parametrize("policy", MEMBERS, ids=lambda policy: f"{type(policy).__name__}-{policy.name}")
def test_no_policy_holds_more_of_a_prompt_than_its_keys_and_values(
    policy: Policy, make_text: Maker, decode: Maker
) -> None:
    geometry = Geometry(1, 4, 2, 64, 16)
    store = PagedKV(PagedCache(geometry, 80), "a", policy, 128)
    stored(store, make_text(0, 1024, geometry), list(range(256, 1025, 256)), decode)
    store.learn()
    assert held_bytes(store.state(0), set()) < 1024 * 2 * geometry.num_kv_heads * geometry.head_dim * 4

"""One sequence through what happens to its pages: prefix hits, swaps, forks of reserved slots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import STORAGES, Storage
from kv.policies import POLICIES
from kv.policies.base import Policy
from kv.store import PagedKV

Maker = Callable[..., Any]
TOKENS = list(range(30))
of_keys_alone = pytest.mark.parametrize(
    "policy",
    [policy for policy in POLICIES if policy.name in ("full", "random", "oracle", "quest", "arkvale", "twilight")],
    ids=lambda policy: policy.name,
)
each_storage = pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.name)


@of_keys_alone
@each_storage
def test_a_prefix_hit_goes_on_as_if_it_had_been_computed(
    policy: Policy, storage: Storage, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    """For policies whose state follows from the stored keys; what others observed, learnt or lost is not shared with
    the pages."""
    text = make_text(0, 30)
    cache = PagedCache(geometry, 40, storage)
    first = PagedKV(cache, "first", policy, 8)
    outputs = [step.out for step in decode(first, text, 0) if step.position >= 28]
    cache.publish("first", TOKENS)
    assert cache.allocate("second", TOKENS) == 28
    second = PagedKV(cache, "second", policy, 8, computed=28)
    again = [step.out for step in decode(second, text, 0)]
    np.testing.assert_array_equal(again, outputs)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@each_storage
def test_a_swap_in_the_middle_changes_nothing(
    policy: Policy, storage: Storage, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    text = make_text(1, 30)

    def outputs(swap: bool) -> list[np.ndarray]:
        cache = PagedCache(geometry, 12, storage, num_host_pages=12)
        store = PagedKV(cache, "a", policy, 8)
        before = [step.out for step in decode(store, text, 20, 25)]
        if swap:
            cache.swap_out("a")
            cache.pool.poison(np.arange(1, 13))
            cache.manager.device.release(cache.manager.device.take(3)[::-1])  # comes back to other pages
            cache.swap_in("a")
        return before + [step.out for step in decode(store, text, 20)]

    np.testing.assert_array_equal(outputs(True), outputs(False))


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

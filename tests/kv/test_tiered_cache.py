"""A cache whose pages live in tiers gives the same bits, moves what a policy asks for, and never holds more on the
device than it may."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import BF16, FLOAT32
from kv.memory.tiered_pool import TieredPool
from kv.memory.tiers import Replacement, Tier
from kv.policies import POLICIES
from kv.policies.base import Policy
from kv.policies.quest import Quest
from kv.policies.streaming_llm import StreamingLLM
from kv.sequence.paged_kv import PagedKV
from kv.sequence.residency import Residency

Maker = Callable[..., Any]
NUM_PAGES = 12


def tiered(
    geometry: Geometry, device: int, replacement: Replacement = Replacement.LRU, dtype: np.dtype[Any] = FLOAT32
) -> PagedCache:
    pieces = NUM_PAGES * geometry.num_layers * geometry.num_kv_heads
    tiers = (Tier("device", device, 1e9), Tier("host", 8, 1e8), Tier("disk", pieces, 1e6))
    return PagedCache(geometry, NUM_PAGES, dtype, tiers=tiers, replacement=replacement)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 99),
    device=st.integers(1, 40),
    replacement=st.sampled_from(Replacement),
    dtype=st.sampled_from([FLOAT32, BF16]),
)
def test_a_run_in_tiers_is_the_run_on_the_device_bitwise(
    policy: Policy,
    seed: int,
    device: int,
    replacement: Replacement,
    dtype: np.dtype[Any],
    geometry: Geometry,
    make_text: Maker,
    decode: Maker,
) -> None:
    text = make_text(seed, 34)
    plain = PagedKV(PagedCache(geometry, NUM_PAGES, dtype), "a", policy, 12)
    store = PagedKV(tiered(geometry, device, replacement, dtype), "a", policy, 12)
    for ours, theirs in zip(decode(store, text, 24), decode(plain, text, 24), strict=True):
        np.testing.assert_array_equal(ours.out, theirs.out)
        np.testing.assert_array_equal(ours.selection.positions, theirs.selection.positions)


def moved_in_decode(
    policy: Policy, device: int, geometry: Geometry, make_text: Maker, decode: Maker
) -> tuple[int, int]:
    """(pages brought to the device, bytes) while 10 tokens are decoded."""
    text = make_text(0, 34)
    store = PagedKV(tiered(geometry, device), "a", policy, 12)
    list(decode(store, text, 24, stop=24))
    before = store.cache.moves["device"]
    pages, size = before.pages, before.bytes
    list(decode(store, text, 24))
    after = store.cache.moves["device"]
    return after.pages - pages, after.bytes - size


def test_moves_are_those_of_the_pages_that_a_policy_chose_anew(
    geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    everything = NUM_PAGES * geometry.num_layers * geometry.num_kv_heads
    assert moved_in_decode(Quest(), everything, geometry, make_text, decode) == (0, 0)
    window_pages, _ = moved_in_decode(StreamingLLM(), 16, geometry, make_text, decode)
    quest_pages, quest_bytes = moved_in_decode(Quest(), 16, geometry, make_text, decode)
    assert window_pages <= 16 < quest_pages  # a window that fits stays; what a query chooses changes
    assert quest_bytes == quest_pages * 2 * geometry.page_size * geometry.head_dim * 4


@given(
    capacity=st.integers(1, 6),
    num_pages=st.integers(1, 8),
    steps=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=4, unique=True), max_size=12),
)
def test_residency_brings_what_was_not_used_lately(capacity: int, num_pages: int, steps: list[list[int]]) -> None:
    residency = Residency(1, num_pages, capacity)
    used = {page: page for page in range(num_pages)}
    for step, wanted in enumerate(steps):
        length = len(used) + step % 2
        used |= dict.fromkeys(range(len(used), length), num_pages + step)
        pages = np.zeros((1, length), np.bool_)
        pages[0, [page for page in wanted if page < length]] = True
        on_device = sorted(used, key=lambda page: (-used[page], page))[:capacity]
        assert residency.touch(pages) == len(set(np.flatnonzero(pages[0]).tolist()) - set(on_device))
        used |= dict.fromkeys(np.flatnonzero(pages[0]).tolist(), num_pages + step + 1)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_pages_read_are_those_of_the_selection(
    policy: Policy, geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    store = PagedKV(PagedCache(geometry, NUM_PAGES), "a", policy, 12)
    for step in decode(store, make_text(0, 34), 24):
        positions = np.atleast_2d(step.selection.positions)
        valid = (
            np.ones_like(positions, np.bool_) if step.selection.valid is None else np.atleast_2d(step.selection.valid)
        )
        rows = np.repeat(np.arange(2), len(positions) // 2) if len(positions) > 1 else np.zeros(1, int)
        expected = [
            set((positions[rows == head][valid[rows == head]] // 4).tolist())
            for head in range(2 if len(positions) > 1 else 1)
        ]
        read = store.pages_read(step.layer)
        assert [set(np.flatnonzero(row).tolist()) for row in read] == (expected if len(expected) == 2 else expected * 2)


def test_no_more_pages_than_fit_are_on_the_device_and_the_rest_is_below(
    geometry: Geometry, make_text: Maker, decode: Maker
) -> None:
    cache = tiered(geometry, 5)
    list(decode(PagedKV(cache, "a", Quest(), 12), make_text(0, 40), 30))
    assert isinstance(cache.pool, TieredPool)
    where = [
        cache.pool.tier_of(layer, head, page)
        for layer in (0, 1)
        for head in (0, 1)
        for page in cache.manager.tables["a"].pages
    ]
    assert len(where) == 40 and where.count("device") <= 5 and where.count("host") <= 8 and "disk" in where
    assert cache.size().pool_bytes == 40 * 2 * geometry.page_size * geometry.head_dim * 4
    assert cache.moves["disk"].pages > 0 and cache.moves["disk"].seconds == pytest.approx(
        cache.moves["disk"].bytes / 1e6
    )


def test_forks_and_freed_pages_keep_apart_in_tiers(geometry: Geometry, make_text: Maker, decode: Maker) -> None:
    text, other = make_text(0, 26), make_text(1, 26)
    store = PagedKV(tiered(geometry, 3), "a", Quest(), 8)
    list(decode(store, text, 18, stop=18))
    child = store.fork("b")
    list(decode(child, other, 18))
    alone = PagedKV(PagedCache(geometry, NUM_PAGES), "a", Quest(), 8)
    for ours, theirs in zip(decode(store, text, 18), decode(alone, text, 18), strict=True):
        np.testing.assert_array_equal(ours.out, theirs.out)


def test_a_file_backs_a_tier_and_is_removed(
    geometry: Geometry, make_text: Maker, decode: Maker, tmp_path: Path
) -> None:
    tiers = (Tier("device", 4, 1e9), Tier("file", 60, 1e6, tmp_path / "pages.bin"))
    cache = PagedCache(geometry, NUM_PAGES, tiers=tiers)
    list(decode(PagedKV(cache, "a", Quest(), 12), make_text(0, 40), 30))
    assert (tmp_path / "pages.bin").stat().st_size == 60 * 2 * geometry.page_size * geometry.head_dim * 4
    assert isinstance(cache.pool, TieredPool)
    cache.pool.tiers.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tiers": (Tier("device", 4, 1), Tier("host", 43, 1))},
            "the tiers hold 47 pages of one head and layer, .* are 48: enlarge a tier",
        ),
    ],
)
def test_tiers_that_cannot_serve_are_refused_in_a_sentence(
    options: dict[str, Any], message: str, geometry: Geometry
) -> None:
    with pytest.raises(KVError, match=message):
        PagedCache(geometry, NUM_PAGES, **options)

"""Pages over tiers: content survives every move, and every move is counted."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kv.errors import KVError
from kv.memory.tiers import Replacement, Tier, TieredPages


def content(page: int) -> np.ndarray:
    return np.full(6, page % 251, np.uint8)


def two_tiers(device: int = 2, host: int = 4, replacement: Replacement = Replacement.LRU) -> TieredPages:
    return TieredPages(6, [Tier("device", device, 1e9), Tier("host", host, 1e6)], replacement)


@given(
    replacement=st.sampled_from(Replacement),
    acts=st.lists(st.tuples(st.sampled_from(["put", "get", "drop", "pin", "unpin"]), st.integers(0, 11)), max_size=60),
)
def test_every_page_keeps_its_bytes_and_is_in_exactly_one_place(
    replacement: Replacement, acts: list[tuple[str, int]]
) -> None:
    tiers = TieredPages(6, [Tier("device", 3, 1e9), Tier("host", 2, 1e6), Tier("slow", 4, 1e3)], replacement)
    alive: set[int] = set()
    pinned: set[int] = set()
    for act, page in acts:
        if act == "put" and page not in alive and len(alive) < 9:
            tiers.put(page, content(page))
            alive.add(page)
        elif page in alive and act == "get":
            np.testing.assert_array_equal(tiers.get([page])[0], content(page))
        elif page in alive and act == "drop":
            tiers.drop(page)
            alive.discard(page)
            pinned.discard(page)
        elif page in alive and act == "pin" and len(pinned | {page}) < 3:
            tiers.pin(page)
            pinned.add(page)
        elif act == "unpin":
            tiers.unpin(page)
            pinned.discard(page)
        assert all(tiers.tier_of(page) == "device" for page in pinned)
        assert sorted(page for level in tiers._levels for page in level.place) == sorted(alive)
        for level in tiers._levels:
            places = [*level.place.values(), *level.free]
            assert sorted(places) == list(range(level.tier.capacity_pages))
            for page, place in level.place.items():
                np.testing.assert_array_equal(level.array[place], content(page))


@given(st.lists(st.integers(0, 5), max_size=40))
def test_lru_misses_are_those_of_a_plain_lru_cache(accesses: list[int]) -> None:
    tiers = two_tiers(device=3, host=6)
    cache: OrderedDict[int, None] = OrderedDict()
    for page in range(6):
        tiers.put(page, content(page))
        cache[page] = None
        while len(cache) > 3:
            cache.popitem(last=False)
    misses = 0
    for page in accesses:
        misses += page not in cache
        cache[page] = None
        cache.move_to_end(page)
        while len(cache) > 3:
            cache.popitem(last=False)
        tiers.get([page])
        assert {p for p in range(6) if tiers.tier_of(p) == "device"} == set(cache)
    assert tiers.hits == len(accesses) - misses and tiers.moves["device"].pages == misses


def test_lfu_moves_down_the_page_that_was_used_least() -> None:
    tiers = two_tiers(replacement=Replacement.LFU)
    tiers.put(0, content(0))
    tiers.put(1, content(1))
    for _ in range(3):
        tiers.get([0])
    tiers.get([1])
    tiers.put(2, content(2))
    assert [tiers.tier_of(page) for page in range(3)] == ["device", "host", "device"]


def test_moves_are_counted_in_pages_bytes_runs_and_seconds() -> None:
    tiers = two_tiers(device=2, host=4)
    for page in range(4):
        tiers.put(page, content(page))
    down = tiers.moves["host"]
    assert (down.pages, down.bytes, down.runs, down.seconds) == (2, 12, 2, 12 / 1e6)
    tiers.get([0, 1])
    up = tiers.moves["device"]
    assert (up.pages, up.bytes, up.seconds) == (2, 12, 12 / 1e9) and up.runs in (1, 2)
    tiers.get([0, 1])
    assert up.pages == 2 and tiers.hits == 2


def test_a_file_backed_tier_holds_pages_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "pages"
    tiers = TieredPages(6, [Tier("device", 1, 1e9), Tier("file", 8, 1e6, path)])
    for page in range(5):
        tiers.put(page, content(page))
    assert path.stat().st_size == 48
    np.testing.assert_array_equal(tiers.get([2])[0], content(2))
    tiers.close()
    assert not path.exists()


def test_a_full_store_refuses_and_keeps_everything(tmp_path: Path) -> None:
    tiers = two_tiers(device=2, host=1)
    for page in range(3):
        tiers.put(page, content(page))
    before = [(page, tiers.tier_of(page)) for page in range(3)]
    for act, message in (
        (lambda: tiers.put(3, content(3)), r"no tier has room for one more page \(device, host are full\)"),
        (lambda: tiers.get([0, 1, 2]), "exceed the 2 of tier 'device'"),
        (lambda: tiers.get([7]), "page 7 is in no tier"),
        (lambda: tiers.drop(7), "page 7 is in no tier"),
        (lambda: tiers.put(0, content(0)), "stored already"),
        (lambda: tiers.put(8, np.zeros(5, np.uint8)), "takes pages of 6"),
    ):
        with pytest.raises(KVError, match=message):
            act()
    assert [(page, tiers.tier_of(page)) for page in range(3)] == before
    tiers.pin(0)
    with pytest.raises(KVError, match="cannot pin"):
        tiers.pin(1)


def test_impossible_tiers_are_refused(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for act, message in (
        (lambda: Tier("device", 0, 1.0), "must be above 0"),
        (lambda: TieredPages(6, []), "no tiers"),
        (lambda: TieredPages(0, [Tier("a", 1, 1.0)]), "at least 1"),
        (lambda: TieredPages(6, [Tier("f", 1, 1.0, precious)]), "would overwrite"),
        (lambda: TieredPages(6, [Tier("f", 1, 1.0, tmp_path / "no" / "file")]), "cannot use"),
    ):
        with pytest.raises(KVError, match=message):
            act()
    assert precious.read_text() == "mine"

"""PageAllocator and BlockManager on integers, against the semantics of vLLM's block pool and block manager."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kv.errors import KVError
from kv.pages.allocator import NULL_PAGE, PageAllocator
from kv.pages.block_manager import Admission, BlockManager
from kv.pages.page import next_key


def snapshot(manager: BlockManager) -> object:
    allocator = manager.allocator
    pages = range(allocator.num_pages + 1)
    keys = [allocator.key(page) for page in pages]
    tables = {seq: (list(table.pages), table.length) for seq, table in manager.tables.items()}
    counts = [allocator.ref_count(page) for page in pages]
    return counts, allocator.free_order(), [key and key.hash for key in keys], tables


def test_pages_without_a_key_are_reused_before_all_others_and_keyed_ones_tail_first() -> None:
    """The order that vLLM's v1 prefix caching test expects after one request of 3 full and 2 unkeyed blocks is
    freed."""
    allocator = PageAllocator(10)
    pages = allocator.take(5)
    key = None
    for page in pages[:3]:
        key = next_key(key, (page,))
        allocator.publish(page, key)
    allocator.release(pages)
    assert allocator.free_order() == [5, 4, 6, 7, 8, 9, 10, 3, 2, 1]


def test_keyed_pages_are_reused_in_the_order_in_which_their_sequences_were_freed() -> None:
    manager = BlockManager(8, page_size=2)
    for seq, tokens in (("a", [1, 2, 3, 4]), ("b", [5, 6, 7, 8])):
        manager.allocate(seq, tokens)
        manager.publish(seq, tokens)
    a, b = (list(manager.tables[seq].pages) for seq in "ab")
    manager.free("a")
    manager.free("b")
    assert manager.allocator.free_order()[-4:] == [*reversed(a), *reversed(b)]


def test_a_hit_takes_a_page_out_of_the_reuse_queue() -> None:
    manager = BlockManager(4, page_size=2)
    manager.allocate("a", [1, 2, 3])
    manager.publish("a", [1, 2, 3])
    page = manager.tables["a"].pages[0]
    manager.free("a")
    manager.allocate("b", [1, 2, 9])
    assert manager.tables["b"].pages[0] == page and page not in manager.allocator.free_order()


def test_handing_out_a_free_page_makes_its_old_content_unfindable() -> None:
    manager = BlockManager(2, page_size=2)
    manager.allocate("a", [1, 2, 3])
    manager.publish("a", [1, 2, 3])
    manager.free("a")
    manager.allocate("b", [7, 8, 9, 9])
    manager.free("b")
    assert manager.allocate("c", [1, 2, 3]).num_cached == 0


@pytest.mark.parametrize("num_tokens, cached", [(1, 0), (4, 0), (5, 4), (8, 4), (9, 8), (12, 8), (13, 12)])
def test_at_least_one_token_is_left_to_compute(num_tokens: int, cached: int) -> None:
    """nano-vllm issues 144 and 199: a prompt that is cached whole gave a prefill of no tokens."""
    manager = BlockManager(16, page_size=4)
    tokens = list(range(13))
    manager.allocate("first", tokens)
    manager.publish("first", tokens)
    assert manager.allocate("second", tokens[:num_tokens]).num_cached == cached


def test_partly_filled_pages_are_never_shared() -> None:
    manager = BlockManager(8, page_size=4)
    manager.allocate("a", [1, 2, 3])
    manager.publish("a", [1, 2, 3])
    assert manager.allocate("b", [1, 2, 3, 4, 5]).num_cached == 0


def test_nothing_is_shared_before_it_is_published() -> None:
    manager = BlockManager(8, page_size=2)
    manager.allocate("a", [1, 2, 3])
    assert manager.allocate("b", [1, 2, 3]).num_cached == 0


def test_a_salt_separates_equal_prompts() -> None:
    manager = BlockManager(16, page_size=2)
    for seq, salt, cached in (("a", "x", 0), ("b", "y", 0), ("c", "x", 4), ("d", "", 0)):
        assert manager.allocate(seq, [1, 2, 3, 4, 5], salt).num_cached == cached
        manager.publish(seq, [1, 2, 3, 4, 5])


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), max_size=6))
def test_colliding_hashes_share_exactly_what_a_good_hash_shares(prompts: list[list[int]]) -> None:
    def cached(hash_function: object) -> list[int]:
        manager = BlockManager(64, page_size=2, **({"hash_function": hash_function} if hash_function else {}))  # type: ignore[arg-type]
        hits = []
        for i, tokens in enumerate(prompts):
            hits.append(manager.allocate(i, tokens).num_cached)
            manager.publish(i, tokens)
        return hits

    assert cached(lambda _: b"same") == cached(None)


def test_admission_says_never_later_or_ok_around_the_watermark() -> None:
    manager = BlockManager(10, page_size=4, watermark_pages=2)
    assert manager.admission(range(32)) is Admission.OK
    assert manager.admission(range(33)) is Admission.NEVER
    manager.allocate("a", range(20))
    assert manager.admission(range(100, 112)) is Admission.OK
    assert manager.admission(range(100, 113)) is Admission.LATER


@given(st.integers(1, 7), st.integers(0, 30), st.integers(1, 30))
def test_append_takes_the_difference_of_two_ceilings(page_size: int, length: int, more: int) -> None:
    manager = BlockManager(64, page_size)
    manager.allocate("a", range(length))
    before = manager.allocator.num_free
    manager.append("a", more)
    assert before - manager.allocator.num_free == -(-(length + more) // page_size) - -(-length // page_size)


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda m: m.allocate("b", range(50, 90)), "does not fit"),
        (lambda m: m.append("a", 99), "pages are needed"),
        (lambda m: m.append("a", 0), "at least 1"),
        (lambda m: m.allocate("a", [1]), "exists already"),
        (lambda m: m.fork("a", "a"), "exists already"),
        (lambda m: m.truncate("a", 99), "cannot truncate"),
        (lambda m: m.publish("a", range(99)), "append first"),
        (lambda m: m.free("nobody"), "is not in the cache: allocate or fork it first"),
        (lambda m: m.allocator.release([1, 1]), "name a page twice"),
        (lambda m: m.allocator.release([8]), "not in use"),
        (lambda m: m.allocator.release([NULL_PAGE]), "not in use"),
    ],
)
def test_a_refused_request_changes_nothing(act: object, message: str) -> None:
    manager = BlockManager(8, page_size=4)
    manager.allocate("a", [1, 2, 3, 4, 5, 6, 7, 8, 9])
    manager.publish("a", [1, 2, 3, 4, 5, 6, 7, 8, 9])
    before = snapshot(manager)
    with pytest.raises(KVError, match=message):
        act(manager)  # type: ignore[operator]
    assert snapshot(manager) == before


def test_fork_takes_no_page_and_only_the_second_free_gives_them_back() -> None:
    manager = BlockManager(8, page_size=2)
    manager.allocate("a", range(5))
    free = manager.allocator.num_free
    manager.fork("a", "b")
    assert manager.allocator.num_free == free
    manager.free("a")
    assert manager.allocator.num_free == free
    manager.free("b")
    assert manager.allocator.num_free == 8


def test_a_write_copies_a_shared_last_page_only_if_it_is_partly_filled() -> None:
    manager = BlockManager(16, page_size=4)
    manager.allocate("a", range(6))
    manager.fork("a", "b")
    last = manager.tables["a"].pages[-1]
    copies = manager.append("b", 1)
    assert copies == [(last, manager.tables["b"].pages[-1])] and copies[0][1] != last
    assert manager.append("a", 1) == []
    manager.append("a", 1)
    manager.fork("a", "c")
    assert manager.append("c", 1) == []


def test_writing_after_a_rollback_into_a_published_page_makes_that_page_unfindable() -> None:
    manager = BlockManager(8, page_size=4)
    manager.allocate("a", [1, 2, 3, 4, 5])
    manager.publish("a", [1, 2, 3, 4, 5])
    manager.truncate("a", 2)
    manager.append("a", 1)
    assert manager.allocate("b", [1, 2, 3, 4, 5]).num_cached == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_pages": 0, "page_size": 4},
        {"num_pages": 4, "page_size": 0},
        {"num_pages": 4, "page_size": 4, "watermark_pages": 4},
    ],
)
def test_a_pool_without_room_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(KVError, match=r"at least 1|watermark"):
        BlockManager(**arguments)

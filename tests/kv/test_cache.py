"""Arrays behind the block tables: what was appended is read back, whatever the pages, their history and their
storage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import BF16, FLOAT32, INT8, STORAGES, Layout, Storage
from kv.pages.scheduler import Preemption, Request, Scheduler

GEOMETRY = Geometry(num_layers=2, num_q_heads=4, num_kv_heads=2, head_dim=4, page_size=3)
LAYOUTS = st.sampled_from(list(Layout))


def tokens_kv(seed: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    k, v = rng.standard_normal((2, GEOMETRY.num_layers, length, 2, 4), np.float32)
    return k, v


def fill(cache: PagedCache, seq: object, k: np.ndarray, v: np.ndarray, start: int, stop: int) -> None:
    if stop > cache.manager.tables[seq].length:  # type: ignore[index]
        cache.append(seq, stop - cache.manager.tables[seq].length)  # type: ignore[index, arg-type]
    for layer in range(GEOMETRY.num_layers):
        cache.write(seq, layer, start, k[layer, start:stop], v[layer, start:stop])  # type: ignore[arg-type]


def contents(cache: PagedCache, seq: object, length: int) -> np.ndarray:
    return np.array([cache.read(seq, layer, 0, length) for layer in range(GEOMETRY.num_layers)])  # type: ignore[arg-type]


@given(length=st.integers(1, 20), seed=st.integers(0, 99), layout=LAYOUTS, data=st.data())
def test_a_gather_through_any_permutation_of_pages_is_the_contiguous_cache_bitwise(
    length: int, seed: int, layout: Layout, data: st.DataObject
) -> None:
    k, v = tokens_kv(seed, length)
    cache = PagedCache(GEOMETRY, 9, layout=layout)
    cache.pool.poison(np.arange(1, 10))
    order = data.draw(st.permutations(range(1, 10)))
    cache.manager.device.take(9)
    for page in order:  # decides the order in which the pages will be handed out
        cache.manager.device.release([page])
    cache.allocate("a")
    fill(cache, "a", k, v, 0, length)
    expected = np.stack([k, v], 1).swapaxes(2, 3)
    assert cache.manager.tables["a"].pages == order[::-1][: GEOMETRY.pages(length)]
    np.testing.assert_array_equal(contents(cache, "a", length), expected)


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.name)
@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6), seed=st.integers(0, 99), layout=LAYOUTS)
def test_the_sizes_of_the_appends_do_not_show_in_what_is_stored(
    storage: Storage, cuts: list[int], seed: int, layout: Layout
) -> None:
    length = sum(cuts)
    k, v = tokens_kv(seed, length)
    cache = PagedCache(GEOMETRY, 32, storage, layout)
    for seq, stops in (("whole", [length]), ("pieces", np.cumsum(cuts).tolist())):
        cache.allocate(seq)
        for start, stop in zip([0, *stops], stops, strict=False):
            fill(cache, seq, k, v, start, stop)
    np.testing.assert_array_equal(contents(cache, "whole", length), contents(cache, "pieces", length))


@settings(max_examples=30)
@given(length=st.integers(1, 20), seed=st.integers(0, 99))
def test_int8_is_off_by_at_most_half_a_step_of_its_page_and_exact_in_the_open_page(length: int, seed: int) -> None:
    k, v = tokens_kv(seed, length)
    cache = PagedCache(GEOMETRY, 16, INT8)
    cache.allocate("a")
    fill(cache, "a", k, v, 0, length)
    error = np.abs(contents(cache, "a", length) - np.stack([k, v], 1).swapaxes(2, 3))
    full = length // 3 * 3
    pages = np.abs(np.stack([k, v], 1).swapaxes(2, 3)[:, :, :, :full]).reshape(2, 2, 2, -1, 12)
    step = pages.max(-1) / 127
    assert (error[:, :, :, :full].reshape(pages.shape).max(-1) <= step / 2 * (1 + 1e-5)).all()
    assert (error[:, :, :, full:] == 0).all()


def test_bf16_keeps_eight_bits() -> None:
    k, v = tokens_kv(0, 7)
    cache = PagedCache(GEOMETRY, 16, BF16)
    cache.allocate("a")
    fill(cache, "a", k, v, 0, 7)
    np.testing.assert_allclose(contents(cache, "a", 7), np.stack([k, v], 1).swapaxes(2, 3), rtol=2**-8)


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.name)
@settings(max_examples=30)
@given(shared=st.integers(1, 10), ours=st.integers(1, 7), theirs=st.integers(1, 7))
def test_writing_to_one_fork_never_changes_the_other(storage: Storage, shared: int, ours: int, theirs: int) -> None:
    cache = PagedCache(GEOMETRY, 32, storage)
    expected = {}
    cache.allocate("a")
    k, v = tokens_kv(0, shared)
    fill(cache, "a", k, v, 0, shared)
    cache.fork("a", "b")
    for seq, more, seed in (("a", ours, 1), ("b", theirs, 2)):
        own_k, own_v = (np.concatenate([old, new], 1) for old, new in zip((k, v), tokens_kv(seed, more), strict=True))
        fill(cache, seq, own_k, own_v, shared, shared + more)
        alone = PagedCache(GEOMETRY, 32, storage)
        alone.allocate(seq)
        fill(alone, seq, own_k, own_v, 0, shared + more)
        expected[seq] = contents(alone, seq, shared + more)
    for seq, want in expected.items():
        np.testing.assert_array_equal(contents(cache, seq, want.shape[-2]), want)


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.name)
def test_a_sequence_comes_back_from_the_host_bit_for_bit(storage: Storage) -> None:
    cache = PagedCache(GEOMETRY, 4, storage, num_host_pages=4)
    cache.allocate("a")
    k, v = tokens_kv(3, 11)
    fill(cache, "a", k, v, 0, 11)
    before = contents(cache, "a", 11)
    cache.swap_out("a")
    cache.pool.poison(np.arange(1, 5))
    cache.swap_in("a")
    np.testing.assert_array_equal(contents(cache, "a", 11), before)


@pytest.mark.parametrize("storage, element", [(FLOAT32, 4), (BF16, 2), (INT8, 1)])
@pytest.mark.parametrize("layout", Layout)
def test_memory_is_known_to_the_byte(storage: Storage, element: int, layout: Layout) -> None:
    cache = PagedCache(GEOMETRY, 9, storage, layout)
    page = 2 * 2 * 2 * 3 * 4 * element  # k and v, layers, heads, slots, dim
    scales = 2 * 2 * 2 * 4 if storage.scaled else 0
    assert cache.size().pool_bytes == 10 * (page + scales)
    cache.allocate("a", range(4))
    assert (cache.size().used_bytes, cache.size().wasted_bytes) == (2 * (page + scales), 2 * page // 3)


def test_an_open_int8_page_costs_its_float32_copy_until_it_is_full_or_freed() -> None:
    cache = PagedCache(GEOMETRY, 9, INT8)
    empty = cache.size().pool_bytes
    k, v = tokens_kv(0, 5)
    cache.allocate("a")
    fill(cache, "a", k, v, 0, 3)
    assert cache.size().pool_bytes == empty
    fill(cache, "a", k, v, 3, 5)
    assert cache.size().pool_bytes == empty + 2 * 2 * 2 * 3 * 4 * 4
    cache.free("a")
    assert cache.size().pool_bytes == empty


@pytest.mark.parametrize("preemption", Preemption)
@settings(max_examples=20, deadline=None)
@given(prompts=st.lists(st.integers(1, 12), min_size=1, max_size=5), new_tokens=st.integers(1, 12))
def test_preempted_requests_generate_the_tokens_of_an_undisturbed_run(
    preemption: Preemption, prompts: list[int], new_tokens: int
) -> None:
    """The next token is a function of every byte the request has in the cache, so a lost or foreign page would show."""

    def kv_of(tokens: list[int]) -> np.ndarray:
        ids = np.asarray(tokens, np.float32)
        return np.broadcast_to(np.sin(ids + np.arange(len(ids)))[:, None, None], (len(ids), 2, 4)).astype(np.float32)

    def run(num_pages: int) -> tuple[dict[str, list[int]], int]:
        cache = PagedCache(GEOMETRY, num_pages, num_host_pages=4)
        scheduler = Scheduler(cache.manager, preemption)
        requests = [Request(str(i), [i % 2] * length) for i, length in enumerate(prompts)]
        goals = {request.name: len(request.tokens) + new_tokens for request in requests}
        for request in requests:
            scheduler.add(request)
        preempted = 0
        while scheduler.running or scheduler.waiting:
            step = scheduler.step()
            cache.apply(step)
            preempted += len(step.preempted)
            for request in step.admitted + step.decoding:
                length = len(request.tokens)
                start = cache.manager.tables[request.name].num_cached if request in step.admitted else length - 1
                for layer in range(2):
                    cache.write(
                        request.name, layer, start, kv_of(request.tokens)[start:], -kv_of(request.tokens)[start:]
                    )
                cache.publish(request.name, request.tokens)
                request.tokens.append(int(1e4 * abs(contents(cache, request.name, length)[..., 0].sum(-1)).sum()) % 7)
                if len(request.tokens) == goals[request.name]:
                    scheduler.finish(request)
        assert cache.manager.device.num_free == num_pages
        return {request.name: request.tokens for request in requests}, preempted

    undisturbed, none = run(100)
    assert none == 0
    assert run(8)[0] == undisturbed


def test_a_pool_that_is_too_small_does_preempt() -> None:
    cache = PagedCache(GEOMETRY, 4)
    scheduler = Scheduler(cache.manager)
    first, second = Request("first", [1] * 6), Request("second", [2] * 6)
    scheduler.add(first)
    scheduler.add(second)
    assert scheduler.step().admitted == [first, second]
    first.tokens.append(1)
    second.tokens.append(1)
    step = scheduler.step()
    assert (step.preempted, step.decoding, list(scheduler.waiting)) == ([second], [first], [second])


def test_a_request_that_outgrows_the_pool_is_named_before_anything_changes() -> None:
    scheduler = Scheduler(PagedCache(GEOMETRY, 2).manager)
    with pytest.raises(KVError, match="can never fit"):
        scheduler.add(Request("long", [0] * 7))
    request = Request("a", [0] * 6)
    scheduler.add(request)
    scheduler.step()
    request.tokens.append(0)
    with pytest.raises(KVError, match="'a' has 7 tokens and the pool holds 6"):
        scheduler.step()
    scheduler.finish(request)


@pytest.mark.parametrize("changed", [{"page_size": 0}, {"num_kv_heads": 3}, {"head_dim": 0}])
def test_impossible_geometries_are_refused(changed: dict[str, int]) -> None:
    good = {"num_layers": 1, "num_q_heads": 4, "num_kv_heads": 2, "head_dim": 4, "page_size": 16}
    with pytest.raises(KVError, match=r"at least 1|choose a divisor"):
        Geometry(**(good | changed))

"""Arrays behind the block tables: what was appended is read back, whatever the pages, their history and the type of
their elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import BF16, DTYPES, FLOAT32
from kv.pages.block_manager import Admission

GEOMETRY = Geometry(num_layers=2, num_q_heads=4, num_kv_heads=2, head_dim=4, page_size=3)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


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


@given(length=st.integers(1, 20), seed=st.integers(0, 99), data=st.data())
def test_a_gather_through_any_permutation_of_pages_is_the_contiguous_cache_bitwise(
    length: int, seed: int, data: st.DataObject
) -> None:
    k, v = tokens_kv(seed, length)
    cache = PagedCache(GEOMETRY, 9)
    cache.pool.poison(np.arange(1, 10))
    order = data.draw(st.permutations(range(1, 10)))
    cache.manager.allocator.take(9)
    for page in order:  # decides the order in which the pages will be handed out
        cache.manager.allocator.release([page])
    cache.allocate("a")
    fill(cache, "a", k, v, 0, length)
    expected = np.stack([k, v], 1).swapaxes(2, 3)
    assert cache.manager.tables["a"].pages == order[::-1][: GEOMETRY.pages(length)]
    np.testing.assert_array_equal(contents(cache, "a", length), expected)


@each_dtype
@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_the_sizes_of_the_appends_do_not_show_in_what_is_stored(
    dtype: np.dtype[Any], cuts: list[int], seed: int
) -> None:
    length = sum(cuts)
    k, v = tokens_kv(seed, length)
    cache = PagedCache(GEOMETRY, 32, dtype)
    for seq, stops in (("whole", [length]), ("pieces", np.cumsum(cuts).tolist())):
        cache.allocate(seq)
        for start, stop in zip([0, *stops], stops, strict=False):
            fill(cache, seq, k, v, start, stop)
    np.testing.assert_array_equal(contents(cache, "whole", length), contents(cache, "pieces", length))


def test_bf16_keeps_eight_bits() -> None:
    k, v = tokens_kv(0, 7)
    cache = PagedCache(GEOMETRY, 16, BF16)
    cache.allocate("a")
    fill(cache, "a", k, v, 0, 7)
    np.testing.assert_allclose(contents(cache, "a", 7), np.stack([k, v], 1).swapaxes(2, 3), rtol=2**-8)


@each_dtype
@settings(max_examples=30)
@given(shared=st.integers(1, 10), ours=st.integers(1, 7), theirs=st.integers(1, 7))
def test_writing_to_one_fork_never_changes_the_other(dtype: np.dtype[Any], shared: int, ours: int, theirs: int) -> None:
    cache = PagedCache(GEOMETRY, 32, dtype)
    expected = {}
    cache.allocate("a")
    k, v = tokens_kv(0, shared)
    fill(cache, "a", k, v, 0, shared)
    cache.fork("a", "b")
    for seq, more, seed in (("a", ours, 1), ("b", theirs, 2)):
        own_k, own_v = (np.concatenate([old, new], 1) for old, new in zip((k, v), tokens_kv(seed, more), strict=True))
        fill(cache, seq, own_k, own_v, shared, shared + more)
        alone = PagedCache(GEOMETRY, 32, dtype)
        alone.allocate(seq)
        fill(alone, seq, own_k, own_v, 0, shared + more)
        expected[seq] = contents(alone, seq, shared + more)
    for seq, want in expected.items():
        np.testing.assert_array_equal(contents(cache, seq, want.shape[-2]), want)


@pytest.mark.parametrize("dtype, element", [(FLOAT32, 4), (BF16, 2)])
def test_memory_is_known_to_the_byte(dtype: np.dtype[Any], element: int) -> None:
    cache = PagedCache(GEOMETRY, 9, dtype)
    page = 2 * 2 * 2 * 3 * 4 * element  # k and v, layers, heads, slots, dim
    assert cache.size().pool_bytes == 10 * page
    cache.allocate("a", range(4))
    assert (cache.size().used_bytes, cache.size().wasted_bytes) == (2 * page, 2 * page // 3)


def test_elements_that_a_pool_cannot_hold_are_refused_by_name() -> None:
    with pytest.raises(KVError, match="cannot store elements of int8: choose float32 or bfloat16"):
        PagedCache(GEOMETRY, 4, np.dtype(np.int8))


def kv_of(tokens: list[int]) -> np.ndarray:
    ids = np.asarray(tokens, np.float32)
    return np.broadcast_to(np.sin(ids + np.arange(len(ids)))[:, None, None], (len(ids), 2, 4)).astype(np.float32)


def advance(cache: PagedCache, name: int, tokens: list[int], start: int) -> None:
    for layer in range(2):
        cache.write(name, layer, start, kv_of(tokens)[start:], -kv_of(tokens)[start:])
    cache.publish(name, tokens)
    tokens.append(int(1e4 * abs(contents(cache, name, len(tokens))[..., 0].sum(-1)).sum()) % 7)


def run(prompts: list[int], new_tokens: int, num_pages: int) -> tuple[dict[int, list[int]], int]:
    """Serves prompts of these lengths first come first served, and preempts the newest as vLLM does: its pages are
    freed, and computed again but for what the prefix cache still has. -> all tokens of each, and the preemptions.

    The next token is a function of every byte that a request has in the cache, so a lost or foreign page would show.
    """
    cache, preempted = PagedCache(GEOMETRY, num_pages), 0
    requests = {i: [i % 2] * length for i, length in enumerate(prompts)}
    goals = {name: len(tokens) + new_tokens for name, tokens in requests.items()}
    waiting, running = list(requests), list[int]()
    while waiting or running:
        while waiting and cache.manager.admission(requests[waiting[0]]) is Admission.OK:
            name = waiting.pop(0)
            advance(cache, name, requests[name], cache.allocate(name, requests[name]))
            running.append(name)
        for name in list(running):
            if len(requests[name]) == goals[name]:
                cache.free(name)
                running.remove(name)
        for name in list(running):
            while name in running and not cache.manager.can_append(name, 1):
                victim = running.pop()
                cache.free(victim)
                waiting.insert(0, victim)
                preempted += 1
            if name in running:
                cache.append(name, 1)
                advance(cache, name, requests[name], len(requests[name]) - 1)
    assert cache.manager.allocator.num_free == num_pages
    return requests, preempted


@settings(max_examples=30, deadline=None)
@given(prompts=st.lists(st.integers(1, 12), min_size=1, max_size=5), new_tokens=st.integers(1, 12))
def test_preempted_requests_generate_the_tokens_of_an_undisturbed_run(prompts: list[int], new_tokens: int) -> None:
    undisturbed, none = run(prompts, new_tokens, 100)
    assert none == 0
    assert run(prompts, new_tokens, 8)[0] == undisturbed


def test_a_pool_that_is_too_small_does_preempt() -> None:
    assert run([6, 6], 6, 4)[1] > 0


@pytest.mark.parametrize("changed", [{"page_size": 0}, {"num_kv_heads": 3}, {"head_dim": 0}])
def test_impossible_geometries_are_refused(changed: dict[str, int]) -> None:
    good = {"num_layers": 1, "num_q_heads": 4, "num_kv_heads": 2, "head_dim": 4, "page_size": 16}
    with pytest.raises(KVError, match=r"at least 1|choose a divisor"):
        Geometry(**(good | changed))

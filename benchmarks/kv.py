"""The time that Quest saves in a decode step's attention on the host, and the time of the page allocator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.claim import Say
from benchmarks.cpu import Timer, take_turns, timed
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.pages.block_manager import BlockManager
from kv.policies.base import Policy
from kv.policies.full import Full
from kv.policies.quest import Quest
from kv.policies.shared import Shared, Sharing
from kv.sequence.paged_kv import PagedKV

CONTEXT, BUDGET = 32768, 2048
TOKENS = 800_000
GEOMETRIES = {
    "32 query heads on 8 KV heads of 128": Geometry(1, 32, 8, 128),
    "8 query heads on 8 KV heads of 128": Geometry(1, 8, 8, 128),
    "9 query heads on 3 KV heads of 64 (SmolLM2)": Geometry(1, 9, 3, 64),
}


def filled_store(geometry: Geometry, policy: Policy, seed: int = 0) -> PagedKV:
    """A store of CONTEXT random tokens in one layer; every second store of the same seed holds the same tokens."""
    rng = np.random.default_rng(seed)
    store = PagedKV(PagedCache(geometry, geometry.pages(CONTEXT) + 8), "sequence", policy, BUDGET)
    for _ in range(0, CONTEXT, 4096):
        k, v = rng.standard_normal((2, 4096, geometry.num_kv_heads, geometry.head_dim), np.float32)
        store.append(0, k, v)
    return store


def decode_timer(store: PagedKV) -> Timer:
    """A timer of one layer's decode step of random numbers: append a token, choose, gather, attend."""
    g, rng = store.cache.geometry, np.random.default_rng(1)

    def timer() -> float:
        k, v = rng.standard_normal((2, 1, g.num_kv_heads, g.head_dim), np.float32)
        q = rng.standard_normal((g.num_q_heads, g.head_dim), np.float32)

        def step() -> None:
            store.append(0, k, v)
            store.attend(0, q)

        return timed(step)()

    return timer


def quest(say: Say) -> float:
    """How many times as long a dense step takes as one under Quest: the least of three geometries.

    The stores take turns, so that none finds its metadata still in the CPU's cache, as it would not in a model of many
    layers."""
    say(f"one decode step of one layer at {CONTEXT} tokens, budget {BUDGET}, pages of 16, float32")
    ratios = []
    for name, geometry in GEOMETRIES.items():
        dense, sparse = filled_store(geometry, Full()), filled_store(geometry, Shared(Quest(), Sharing.KV_MAX))
        turns = take_turns({"dense": decode_timer(dense), "quest": decode_timer(sparse)}, 30)
        assert dense.activity.sparse_steps == 0 and sparse.activity.sparse_steps == sparse.activity.decode_steps
        ratios.append(turns.ratio("dense", "quest"))
        times = "   ".join(f"{side} {1e3 * turns.median(side):6.2f} ms" for side in turns.seconds)
        say(f"{name:44} {times}   {ratios[-1]:5.1f} times")
    return min(ratios)


def append_and_free(num_sequences: int, num_tokens: int) -> Callable[[], None]:
    """What appends num_tokens, shared out among the sequences round robin, and then frees all of them."""
    page_size, prompt = 16, 4
    each = num_tokens // num_sequences
    manager = BlockManager(num_sequences * -(-(prompt + each) // page_size), page_size)
    for seq in range(num_sequences):
        manager.allocate(seq, (seq,) * prompt)

    def work() -> None:
        for _ in range(each):
            for seq in range(num_sequences):
                manager.append(seq, 1)
        for seq in range(num_sequences):
            manager.free(seq)

    return work


def allocator(say: Say) -> float:
    """How many times as long a token takes with 100,000 sequences as with 10."""
    # Managers are made outside of the measured time, one for each turn.
    sides = {count: lambda count=count: timed(append_and_free(count, TOKENS))() for count in (10, 1_000, 100_000)}
    turns = take_turns({f"{count}": timer for count, timer in sides.items()}, 5)
    for count in turns.seconds:
        say(
            f"{int(count):8,} sequences {1e9 * turns.median(count) / TOKENS:7.0f} ns a token   "
            f"{turns.ratio(count, '10'):5.2f} times that of 10 sequences"
        )
    return turns.ratio("100000", "10")

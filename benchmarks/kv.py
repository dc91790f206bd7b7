"""Measured claims about kv, as ratios within one run. `python benchmarks/kv.py` takes about a minute on one core; run
it with OPENBLAS_NUM_THREADS=1, since CPU time counts what all threads do.

1. One decode step's attention at 32,768 tokens under Quest with a budget of 2,048 (float32), appending and metadata
update included,
   is at least 4 times faster than dense attention by the same code.
2. What the allocator costs for a token does not grow with the number of sequences: 10, 1,000 and 100,000.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys

sys.path = [
    entry for entry in sys.path if not entry.endswith("benchmarks")
]  # where this file would hide the package kv

import time
from collections.abc import Callable, Sequence

import numpy as np

from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.pages.block_manager import BlockManager
from kv.policies.base import Policy
from kv.policies.full import Full
from kv.policies.quest import Quest
from kv.policies.shared import Shared, Sharing
from kv.sequence.paged_kv import PagedKV

CONTEXT, BUDGET = 32768, 2048


def filled_store(geometry: Geometry, policy: Policy, seed: int = 0) -> PagedKV:
    """A store of CONTEXT random tokens in one layer; every second store of the same seed holds the same tokens."""
    rng = np.random.default_rng(seed)
    store = PagedKV(PagedCache(geometry, geometry.pages(CONTEXT) + 8), "sequence", policy, BUDGET)
    for _ in range(0, CONTEXT, 4096):
        k, v = rng.standard_normal((2, 4096, geometry.num_kv_heads, geometry.head_dim), np.float32)
        store.append(0, k, v)
    return store


def step_seconds(stores: Sequence[PagedKV], steps: int = 30) -> np.ndarray:
    """CPU seconds of one layer's decode step (append a token, choose, gather, attend): float64 [steps, stores].

    The stores take turns, so that none finds its metadata still in the CPU's cache, as it would not in a model of many
    layers."""
    g = stores[0].cache.geometry
    rng = np.random.default_rng(1)
    seconds = np.zeros((steps, len(stores)))
    for step in range(steps):
        k, v = rng.standard_normal((2, 1, g.num_kv_heads, g.head_dim), np.float32)
        q = rng.standard_normal((g.num_q_heads, g.head_dim), np.float32)
        for i, store in enumerate(stores):
            begin = time.process_time()
            store.append(0, k, v)
            store.attend(0, q)
            seconds[step, i] = time.process_time() - begin
    return seconds


def quest_against_dense(name: str, geometry: Geometry) -> float:
    """Prints and returns how many times faster a step under Quest is than the dense one."""
    dense, sparse = filled_store(geometry, Full()), filled_store(geometry, Shared(Quest(), Sharing.KV_MAX))
    seconds = step_seconds([dense, sparse])
    dense_seconds, sparse_seconds = np.median(seconds, axis=0).tolist()
    assert dense.activity.sparse_steps == 0 and sparse.activity.sparse_steps == sparse.activity.decode_steps
    ratio = dense_seconds / sparse_seconds
    least = np.divide(*seconds.min(axis=0))
    times = f"dense {1e3 * dense_seconds:7.2f} ms   quest {1e3 * sparse_seconds:6.2f} ms"
    print(f"{name:44} {times}   {ratio:5.1f} times faster ({least:.1f} by the least)", flush=True)
    return ratio


def allocator_nanoseconds(num_sequences: int, num_tokens: int) -> float:
    """CPU nanoseconds for a token, over num_tokens appends shared out among the sequences round robin, then freeing all
    of them."""
    page_size, prompt = 16, 4
    each = num_tokens // num_sequences
    manager = BlockManager(num_sequences * -(-(prompt + each) // page_size), page_size)
    for seq in range(num_sequences):
        manager.allocate(seq, (seq,) * prompt)
    begin = time.process_time_ns()
    for _ in range(each):
        for seq in range(num_sequences):
            manager.append(seq, 1)
    for seq in range(num_sequences):
        manager.free(seq)
    return (time.process_time_ns() - begin) / num_tokens


def best_of(repeats: int, measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(repeats))


def main() -> None:
    print(
        f"One decode step of one layer at {CONTEXT} tokens, budget {BUDGET}, pages of 16, float32, median CPU "
        "time of 30 steps"
    )
    for name, geometry in (
        ("32 query heads on 8 KV heads of 128", Geometry(1, 32, 8, 128)),
        ("8 query heads on 8 KV heads of 128", Geometry(1, 8, 8, 128)),
        ("9 query heads on 3 KV heads of 64 (SmolLM2)", Geometry(1, 9, 3, 64)),
    ):
        quest_against_dense(name, geometry)
    print("\nAllocator: CPU time of an appended token, best of 3 runs of 1,600,000 tokens")
    costs = {
        count: best_of(3, lambda count=count: allocator_nanoseconds(count, 1_600_000)) for count in (10, 1_000, 100_000)
    }
    for count, cost in costs.items():
        print(f"{count:8,} sequences {cost:7.0f} ns for a token   {cost / costs[10]:5.2f} times that of 10 sequences")


if __name__ == "__main__":
    main()

"""Bytes and descriptors of a step against closed formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import BF16, DTYPES, FLOAT32
from kv.policies.base import Policy
from kv.policies.full import Full
from kv.policies.oracle import OracleTopK
from kv.policies.quest import Quest
from kv.policies.random_pages import RandomPages
from kv.policies.shared import Shared, Sharing
from kv.sequence.paged_kv import PagedKV
from kv.sequence.traffic import StepTraffic

Maker = Callable[..., Any]
G = Geometry(num_layers=1, num_q_heads=4, num_kv_heads=2, head_dim=8, page_size=4)


def last_traffic(policy: Policy, make_text: Maker, decode: Maker, dtype: np.dtype[Any] = FLOAT32) -> StepTraffic:
    """Of decoding position 63 with a budget of 16 tokens: 16 pages, 4 kept, no padding; pages lie in the pool in
    reverse order."""
    cache = PagedCache(G, 16, dtype)
    cache.manager.allocator.take(16)
    for page in range(1, 17):
        cache.manager.allocator.release([page])
    store = PagedKV(cache, "a", policy, 16)
    list(decode(store, make_text(0, 64, G), 63))
    traffic = store.last_traffic[0]
    assert traffic is not None
    return traffic


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quest_reads_one_part_in_a_page_size_and_the_kept_share(
    dtype: np.dtype[Any], make_text: Maker, decode: Maker
) -> None:
    """kv traffic as a fraction of dense: 1 / S + K / P, index not counted."""
    quest = last_traffic(Quest(), make_text, decode, dtype)
    quest_kv = last_traffic(Shared(Quest(), Sharing.KV_MAX), make_text, decode, dtype)
    dense = 2 * 64 * 2 * 8 * dtype.itemsize
    assert quest_kv.metadata_bytes * 4 == dense
    assert quest_kv.page_bytes * 4 == dense
    assert quest.page_bytes == 2 * quest_kv.page_bytes, "each query head reads its own pages"
    assert quest_kv.index_bytes == 4 * 2 * 4 and quest_kv.padding_bytes == 0


@pytest.mark.parametrize("dtype, element", [(FLOAT32, 4), (BF16, 2)])
def test_the_oracle_pays_for_reading_every_key(
    dtype: np.dtype[Any], element: int, make_text: Maker, decode: Maker
) -> None:
    oracle = last_traffic(OracleTopK(), make_text, decode, dtype)
    assert oracle.metadata_bytes == 64 * 2 * 8 * element


def test_each_kept_page_of_each_head_is_a_descriptor_for_keys_and_one_for_values(
    make_text: Maker, decode: Maker
) -> None:
    """Pages lie in reverse, so no two kept pages make one run, whether heads share a choice or not."""
    for policy in (RandomPages(), Shared(RandomPages(), Sharing.LAYER)):
        traffic = last_traffic(policy, make_text, decode)
        assert (traffic.descriptors, traffic.longest_run) == (2 * 2 * 4, 4 * 8 * 4)


def test_neighbouring_pages_are_one_run(make_text: Maker, decode: Maker) -> None:
    cache = PagedCache(G, 16)
    store = PagedKV(cache, "a", Full())
    list(decode(store, make_text(0, 30, G), 29))
    traffic = store.last_traffic[0]
    assert traffic is not None and traffic.descriptors == 4  # keys and values, two heads
    assert traffic.longest_run == 32 * 8 * 4
    assert traffic.page_bytes == 2 * 30 * 2 * 8 * 4 and traffic.padding_bytes == 2 * 2 * 2 * 8 * 4


def test_traffic_adds_up() -> None:
    total = StepTraffic(1, 2, 3, 4, 5, 7) + StepTraffic(1, 1, 1, 1, 1, 9)
    assert total == StepTraffic(2, 3, 4, 5, 6, 9) and total.total_bytes == 14


@pytest.mark.parametrize("length", [32768])
def test_the_worked_example_of_the_paper_is_an_eighth(length: int) -> None:
    """32K context, 2K budget, pages of 16: metadata 1/16 and pages 1/16 of the dense cache."""
    g = Geometry(1, 1, 1, 128, 16)
    cache = PagedCache(g, length // 16, BF16)
    store = PagedKV(cache, "a", Quest(), 2048)
    rng = np.random.default_rng(0)
    kv = rng.standard_normal((length, 1, 128), np.float32)
    store.append(0, kv, kv)
    store.select(0, rng.standard_normal((1, 1, 128), np.float32))
    traffic = store.last_traffic[0]
    dense = 2 * length * 128 * 2
    assert traffic is not None and (traffic.metadata_bytes + traffic.page_bytes) / dense == 0.125

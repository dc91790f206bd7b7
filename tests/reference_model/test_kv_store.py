from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_model.errors import ModelError
from reference_model.kv_store import ContiguousKV


def tokens(start: int, count: int) -> np.ndarray:
    """[count, 2 heads, 3 dims], every element different and known from its position."""
    return np.arange(start * 6, (start + count) * 6, dtype=np.float32).reshape(count, 2, 3)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 8))
def test_contiguous_returns_what_was_appended_in_any_chunks(chunks: list[int], capacity: int) -> None:
    store = ContiguousKV(1, 2, 3, capacity)
    for count in chunks:
        store.append(0, tokens(store.length, count), -tokens(store.length, count))
    selection = store.select(0, np.zeros((1, 2, 3), np.float32))
    everything = tokens(0, sum(chunks)).swapaxes(0, 1)
    np.testing.assert_array_equal(selection.k, everything)
    np.testing.assert_array_equal(selection.v, -everything)
    np.testing.assert_array_equal(selection.positions, np.arange(sum(chunks)))


def test_contiguous_selects_a_view_and_not_a_copy() -> None:
    store = ContiguousKV(2, 2, 3)
    store.append(1, tokens(0, 4), tokens(0, 4))
    first, second = (store.select(1, np.zeros((1, 2, 3), np.float32)) for _ in range(2))
    assert np.shares_memory(first.k, second.k) and np.shares_memory(first.v, second.v)


def test_length_counts_only_tokens_that_every_layer_holds() -> None:
    store = ContiguousKV(2, 2, 3)
    store.append(0, tokens(0, 4), tokens(0, 4))
    assert store.length == 0
    store.append(1, tokens(0, 4), tokens(0, 4))
    assert store.length == 4


def test_truncated_tokens_are_overwritten_by_the_next_append() -> None:
    store = ContiguousKV(1, 2, 3)
    store.append(0, tokens(0, 5), tokens(0, 5))
    store.truncate(2)
    store.append(0, tokens(7, 1), tokens(7, 1))
    selection = store.select(0, np.zeros((1, 2, 3), np.float32))
    np.testing.assert_array_equal(selection.k, np.concatenate([tokens(0, 2), tokens(7, 1)]).swapaxes(0, 1))


def test_truncating_to_more_than_is_held_is_refused() -> None:
    with pytest.raises(ModelError, match="from 0 to 0"):
        ContiguousKV(1, 2, 3).truncate(1)

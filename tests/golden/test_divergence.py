"""The first tensor in program order that failed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import GoldenError, compare, first_divergence

NAMES = [f"t{i}" for i in range(8)]


def compared(bad: set[str], names: list[str] = NAMES):  # type: ignore[no-untyped-def]
    """A comparison of one-element tensors of which those in `bad` differ."""
    return compare(
        {name: np.array([name in bad], np.int8) for name in names}, {name: np.zeros(1, np.int8) for name in names}, 0
    )


@given(st.permutations(NAMES), st.sets(st.sampled_from(NAMES), min_size=1))
def test_the_first_failing_name_of_the_order_is_found(order: list[str], bad: set[str]) -> None:
    found = first_divergence(compared(bad), order)
    assert found is not None
    assert found.tensor.name == order[found.position] == next(name for name in order if name in bad)
    assert found.last_good == (order[found.position - 1] if found.position else None)


def test_nothing_diverges_where_all_passed() -> None:
    assert first_divergence(compared(set()), NAMES) is None


def test_the_window_runs_from_the_last_good_tensor_over_those_not_compared() -> None:
    found = first_divergence(compared({"c"}, ["a", "c"]), ["a", "lost", "overwritten", "c", "d"])
    assert found is not None
    assert (found.position, found.last_good, found.not_compared) == (3, "a", ("lost", "overwritten"))
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_a_name_made_twice_counts_where_it_is_first_made() -> None:
    found = first_divergence(compared({"a"}, ["a", "b"]), ["b", "a", "b", "a"])
    assert found is not None and (found.position, found.last_good) == (1, "b")


def test_a_failing_tensor_outside_the_order_is_refused_since_it_might_be_the_first() -> None:
    with pytest.raises(GoldenError, match="failing tensors t1, t2 are not in the given order"):
        first_divergence(compared({"t1", "t2", "t3"}), ["t0", "t3"])

"""Sums formed in one call against the same sums one addition after another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.numerics import bf16
from npusim.numerics.accumulate import checked_product, dot_in_order, dot_patterns, sum_in_order, sum_stacked
from npusim.numerics.convert import bf16_from_int8, looked_up


def numbers(rng: np.random.Generator, spread: int, *shape: int) -> np.ndarray:
    """bf16 numbers as float32, `spread` binary orders of magnitude to either side of 1, with zeros, and where `spread`
    is wide poison."""
    exponents = rng.integers(max(0, 127 - spread), min(256, 128 + spread), shape)
    patterns = (rng.integers(0, 2, shape) << 15 | exponents << 7 | rng.integers(0, 128, shape)).astype(np.uint16)
    patterns[rng.random(shape) < 0.1] = 0
    return bf16.to_float(patterns)


@given(st.integers(0, 1 << 32), st.sampled_from([2, 40, 125, 127, 128]), st.integers(1, 40))
def test_a_sum_in_one_call_is_the_sum_one_by_one(seed: int, spread: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    terms = checked_product(numbers(rng, spread, count, 9), numbers(rng, spread // 4, count, 9))
    expected = sum_in_order(terms, np.zeros(9, np.float32), normal=False)
    assert sum_stacked(terms, normal=False).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "terms", [[3e38, 3e38, -3e38], [1.2e-38, -1.19e-38, 1.2e-38], [np.nan, 1, 2], [3.4028235e38, 1e30, -1e38], [-0.0]]
)
def test_overflow_underflow_and_poison_on_the_way_are_noticed(terms: list[float]) -> None:
    column = np.array(terms, np.float32)[:, None]
    assert (
        sum_stacked(column, normal=False).tobytes()
        == sum_in_order(column, np.zeros(1, np.float32), normal=False).tobytes()
    )


@given(st.integers(0, 1 << 32), st.sampled_from([40, 127]), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_a_product_beyond_the_normal_range_goes_on_from_its_start(
    seed: int, spread: int, rows: int, columns: int, begun: bool
) -> None:
    rng = np.random.default_rng(seed)
    left, right = numbers(rng, spread, rows, 20), numbers(rng, spread, 20, columns)
    start = np.zeros((rows, columns), np.float32)
    if begun:  # any pattern at all: denormals, infinity and NaN are what a partial sum in memory may be
        start = numbers(rng, spread, rows, columns)
        odd = rng.random(start.shape) < 0.2
        start[odd] = rng.choice(
            np.array([1e-40, -1e-40, np.inf, -np.inf, np.nan, 3.4028235e38, -0.0], np.float32), int(odd.sum())
        )
    expected = sum_in_order((checked_product(left[:, k, None], right[k]) for k in range(20)), start, normal=False)
    assert dot_in_order(left, right, False, start if begun else None).tobytes() == expected.tobytes()


@given(
    st.integers(0, 1 << 32), st.sampled_from([2, 40, 127, 128]), st.integers(1, 9), st.integers(1, 40), st.booleans()
)
def test_a_product_of_patterns_is_that_of_the_numbers_that_they_are_read_as(
    seed: int, spread: int, rows: int, columns: int, begun: bool
) -> None:
    """With denormals, -0 and, where the exponents are wide, poison among them; a row alone goes a way of its own."""
    rng = np.random.default_rng(seed)
    low, high = max(0, 127 - spread), min(256, 128 + spread)

    def patterns(*shape: int) -> np.ndarray:
        found = rng.integers(0, 2, shape) << 15 | rng.integers(low, high, shape) << 7 | rng.integers(0, 128, shape)
        found[rng.random(shape) < 0.1] &= 0x8000 | int(rng.integers(0, 2)) * 0x7F
        return found.astype(np.uint16)

    left, right = patterns(rows, 24), patterns(4, 6, columns).swapaxes(0, 1)
    start = bf16.to_float(patterns(rows, columns)) if begun else None
    start = None if start is None else np.nan_to_num(start)
    there = right.reshape(24, columns)
    terms = (checked_product(bf16.to_float(left[:, k, None]), bf16.to_float(there[k])) for k in range(24))
    expected = sum_in_order(terms, np.zeros((rows, columns), np.float32) if start is None else start, normal=False)
    assert dot_patterns(left, right, start).tobytes() == expected.tobytes()


@given(st.binary(min_size=1, max_size=64), st.sampled_from([1, 100]), st.booleans())
def test_integers_become_bf16_as_the_table_says(octets: bytes, times: int, signed: bool) -> None:
    values = np.frombuffer(octets * times, np.uint8).reshape(-1, len(octets)).T
    table = bf16_from_int8(signed)
    assert np.array_equal(looked_up(table, values), table[values])


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("across", ["C", "F"])
def test_the_order_of_a_sum_does_not_depend_on_how_operands_lie_in_memory(rows: int, begun: bool, across: str) -> None:
    rng = np.random.default_rng(3)
    left, right = numbers(rng, 2, rows, 63), numbers(rng, 2, 63, 31)
    start = numbers(rng, 2, rows, 31)
    expected = sum_in_order(
        (left[:, k, None] * right[k] for k in range(63)), start if begun else np.zeros_like(start), normal=True
    )
    lying = [np.asarray(operand, order=across) for operand in (left, right, start)]
    found = dot_in_order(lying[0], lying[1], True, lying[2] if begun else None)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 15, 16, 17, 32])
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9])
def test_short_sums_of_few_elements_are_in_order_too(rows: int, columns: int, begun: bool) -> None:
    """Where few short sums are compared, they agree in a wrong order by chance, so a shape could pass its trial."""
    rng = np.random.default_rng(rows * columns)
    for count in (2, 3, 4, 5, 8, 17, 40):
        left, right, start = (
            bf16.to_float(bf16.from_float(rng.standard_normal(shape).astype(np.float32)))
            for shape in ((rows, count), (count, columns), (rows, columns))
        )
        terms = [left[:, k, None] * right[k] for k in range(count)]
        expected = sum_in_order(terms, start if begun else np.zeros_like(start), True)
        np.testing.assert_array_equal(dot_in_order(left, right, True, start if begun else None), expected)

"""Products of many matrices at once, and sums of rows without a product, against products one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.numerics import bf16
from npusim.numerics.accumulate import dot_in_order, stays_normal
from reference_model.quant import products
from reference_model.quant.products import F32, Numbers, product, row_dots, row_sums

SPREADS = st.sampled_from([2, 40, 127])
"""Binary orders of magnitude to either side of 1; the widest leave the normal range, and have poison."""


def drawn(seed: int, spread: int, *shape: int) -> Numbers:
    rng = np.random.default_rng(seed)
    exponents = rng.integers(max(0, 127 - spread), min(256, 128 + spread), shape)
    patterns = (rng.integers(0, 2, shape) << 15 | exponents << 7 | rng.integers(0, 128, shape)).astype(np.uint16)
    patterns[rng.random(shape) < 0.1] = 0
    return Numbers.of(patterns)


def one_by_one(left: Numbers, right: Numbers) -> F32:
    normal = stays_normal(left.span, right.span, left.values.shape[-1])
    pairs = zip(left.values, right.values, strict=True)
    return np.stack([dot_in_order(np.ascontiguousarray(a), np.ascontiguousarray(b), normal) for a, b in pairs])


@given(st.integers(0, 1 << 32), SPREADS, st.integers(1, 9), st.integers(1, 150), st.integers(1, 140), st.booleans())
def test_products_of_a_stack_are_those_of_its_matrices(
    seed: int, spread: int, rows: int, depth: int, width: int, native: bool
) -> None:
    left, right = drawn(seed, spread, 3, rows, depth), drawn(seed + 1, spread // 2, 3, width, depth).swapaxes(-1, -2)
    with pytest.MonkeyPatch.context() as patch:
        if not native:
            patch.setattr(products, "sums_in_order", lambda *shape: False)
        found = product(left, right)
    assert found.tobytes() == one_by_one(left, right).tobytes()


@given(st.integers(0, 1 << 32), SPREADS, st.integers(1, 70), st.integers(1, 200))
def test_sums_of_rows_are_products_with_ones_and_with_rows(seed: int, spread: int, rows: int, depth: int) -> None:
    a, b = drawn(seed, spread, rows, depth), drawn(seed + 1, spread // 2, rows, depth)
    ones = Numbers.of(np.full((rows, depth, 1), bf16.ONE))
    each = Numbers(a.values[:, None], a.span)
    assert row_sums(a).tobytes() == one_by_one(each, ones).tobytes()
    assert row_dots(a, b).tobytes() == one_by_one(each, Numbers(b.values[..., None], b.span)).tobytes()


@given(st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=6), st.booleans())
def test_floats_are_read_as_the_bf16_numbers_that_they_are_or_are_rounded_to(bits: list[int], cut: bool) -> None:
    values = (np.array(bits, np.uint32) & np.uint32(0xFFFF0000 if cut else 0xFFFFFFFF)).view(np.float32)
    found, expected = Numbers.of_floats(values), Numbers.of(bf16.from_float(values))
    assert found.span == expected.span
    np.testing.assert_array_equal(found.values, expected.values)

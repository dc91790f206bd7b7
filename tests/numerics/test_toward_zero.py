"""Addition toward zero: the processor's rounding mode, the way through float64, and exact rationals agree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.numerics.toward_zero import add, add_through_float64, is_native, rounding_toward_zero
from tests.spec import bf16 as spec

NORMALS = st.builds(
    lambda sign, exponent, fraction: float(np.array([sign << 31 | exponent << 23 | fraction],
    np.uint32).view(np.float32)[0]),
    st.integers(0, 1), st.integers(1, 253), st.integers(0, (1 << 23) - 1),
)  # fmt: skip
NEAR_EXPONENTS = st.builds(
    lambda sign, exponent, fraction: float(np.array([sign << 31 | exponent << 23 | fraction],
    np.uint32).view(np.float32)[0]),
    st.integers(0, 1), st.integers(100, 140), st.sampled_from([0, 1, 0x400000, 0x7FFFFF]) | st.integers(0,
    (1 << 23) - 1),
)  # fmt: skip


@given(NORMALS | NEAR_EXPONENTS, NEAR_EXPONENTS)
def test_both_ways_cut_the_exact_sum(x: float, y: float) -> None:
    exact = spec.toward_zero(Fraction(x) + Fraction(y))
    a, b = np.array([x], np.float32), np.array([y], np.float32)
    with rounding_toward_zero():
        native = float(add(a, b)[0])
    emulated = float(add_through_float64(a, b)[0])
    assert native == emulated or abs(native) < 2.0**-126
    if exact:
        assert Fraction(emulated) == exact


def test_vector_body_and_tail_round_alike() -> None:
    if not is_native():
        pytest.skip("NumPy does not follow the rounding mode here")
    rng = np.random.default_rng(1)
    for size in (1, 3, 8, 17, 100):
        a, b = (
            rng.standard_normal(size).astype(np.float32) * np.float32(10) ** rng.integers(-3, 4, size) for _ in range(2)
        )
        a, b = a.astype(np.float32), b.astype(np.float32)
        with rounding_toward_zero():
            native = add(a, b)
        np.testing.assert_array_equal(native, add_through_float64(a, b))


def test_the_mode_ends_with_the_block_even_behind_an_error() -> None:
    with pytest.raises(KeyError), rounding_toward_zero():
        raise KeyError
    one, tiny = np.full(17, 1, np.float32), np.full(17, -(2.0**-40), np.float32)
    assert (one + tiny == 1).all()


def test_add_writes_where_it_is_told() -> None:
    out = np.empty(3, np.float32)
    with rounding_toward_zero():
        result = add(np.ones(3, np.float32), np.ones(3, np.float32), out=out)
    assert out.tolist() == [2, 2, 2] and result is out

"""Integer results against the scalar twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.numerics import requant
from tests.spec import requant as spec

INT16 = np.arange(-(1 << 15), 1 << 15, dtype=np.int32)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("bits", [0, 1, 2, 7, 15, 16, 31, 40])
def test_shift_right_of_every_16_bit_number(bits: int, rounding: bool) -> None:
    expected = [spec.shift_right(v, bits, rounding) for v in INT16.tolist()]
    assert requant.shift_right(INT16.copy(), bits, rounding).tolist() == expected


@given(INT32, st.integers(2, 31), st.booleans())
def test_shift_right_of_int32_never_overflows(value: int, bits: int, rounding: bool) -> None:
    assert int(requant.shift_right(np.array([value], np.int32), bits, rounding)[0]) == spec.shift_right(
        value, bits, rounding
    )


@pytest.mark.parametrize("signed", [False, True])
def test_saturate_of_every_16_bit_number_to_8_bits(signed: bool) -> None:
    assert requant.saturate(INT16.copy(), 8, signed).tolist() == [spec.saturate(v, 8, signed) for v in INT16.tolist()]


@given(INT32, INT32)
def test_high_mul_is_gemmlowps(a: int, b: int) -> None:
    assert int(requant.rounding_doubling_high_mul(np.array([a]), b)[0]) == spec.rounding_doubling_high_mul(a, b)


def test_high_mul_of_the_smallest_number_by_itself_wraps() -> None:
    assert int(requant.rounding_doubling_high_mul(np.array([-(1 << 31)]), -(1 << 31))[0]) == -(1 << 31)


@pytest.mark.parametrize("multiplier", [1 << 30, (1 << 30) - 1, (1 << 31) - 1, -(1 << 31), 1, 0])
def test_high_mul_of_every_16_bit_number(multiplier: int) -> None:
    expected = [spec.rounding_doubling_high_mul(v, multiplier) for v in INT16.tolist()]
    assert requant.rounding_doubling_high_mul(INT16, multiplier).tolist() == expected


@pytest.mark.parametrize("exponent", [0, 1, 2, 8, 15, 31])
def test_divide_by_pot_of_every_16_bit_number(exponent: int) -> None:
    expected = [spec.rounding_divide_by_pot(v, exponent) for v in INT16.tolist()]
    assert requant.rounding_divide_by_pot(INT16, exponent).tolist() == expected


@given(INT32, st.lists(st.tuples(INT32, st.integers(0, 31)), min_size=1, max_size=5))
def test_every_channel_has_its_own_multiplier_and_shift(value: int, channels: list[tuple[int, int]]) -> None:
    multiplier, shift = (np.array(column, np.int64) for column in zip(*channels, strict=True))
    expected = [spec.multiply_by_quantized(value, m, s) for m, s in channels]
    assert (
        requant.multiply_by_quantized(np.full(len(channels), value, np.int64), multiplier, shift).tolist() == expected
    )


@given(st.integers(-(1 << 21), 1 << 21), st.lists(st.tuples(INT32, st.integers(0, 31)), min_size=1, max_size=5))
def test_products_that_float64_holds_round_as_the_wide_ones(value: int, channels: list[tuple[int, int]]) -> None:
    multiplier, shift = (np.array(column, np.int64) for column in zip(*channels, strict=True))
    values = np.full(len(channels), value, np.int32)
    wide = requant.rounding_divide_by_pot(requant.rounding_doubling_high_mul(values, multiplier), shift)
    assert requant.multiply_by_quantized(values, multiplier, shift).tolist() == wide.tolist()


@pytest.mark.parametrize("bits", [6, 8])
def test_shift_counts_are_twos_complement_and_negative_ones_shift_left(bits: int) -> None:
    for count in range(1 << bits):
        left, right = requant.split_shift(count, bits)
        signed = count - (1 << bits) if count >> (bits - 1) else count
        assert (int(left), int(right)) == ((-signed & 31, 0) if signed < 0 else (0, signed))

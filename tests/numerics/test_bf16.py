"""bf16 arrays against the scalar twin and, for rounding, against ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.numerics import bf16
from tests.spec import bf16 as spec

ALL = np.arange(1 << 16, dtype=np.uint16)
FLOAT_BITS = st.integers(0, (1 << 32) - 1)


def _float(bits: int) -> np.ndarray:
    return np.array([bits], np.uint32).view(np.float32)


def _as_float(value: spec.Value) -> float:
    return float("nan") if value is None else float(value)


@pytest.mark.slow
def test_every_pattern_is_read_as_the_twin_reads_it() -> None:
    expected = np.array([_as_float(spec.read(p)) for p in ALL.tolist()], np.float32)
    np.testing.assert_array_equal(bf16.to_float(ALL), expected)
    assert not np.signbit(bf16.to_float(ALL)[ALL & 0x7F80 == 0]).any()


def test_table_and_arithmetic_read_alike() -> None:
    large = np.tile(ALL, 2)
    small = [bf16.to_float(part) for part in np.split(large, 32)]
    np.testing.assert_array_equal(bf16.to_float(large), np.concatenate(small))


@pytest.mark.slow
def test_an_accumulator_is_read_with_its_denormals() -> None:
    expected = np.array([_as_float(spec.read_accumulator(p)) for p in ALL.tolist()], np.float32)
    np.testing.assert_array_equal(bf16.to_float_with_denormals(ALL), expected)


@pytest.mark.slow
def test_every_pattern_is_written_back_as_the_twin_writes_it() -> None:
    expected = np.array([spec.copy(p) for p in ALL.tolist()], np.uint16)
    np.testing.assert_array_equal(bf16.from_float(bf16.to_float(ALL)), expected)
    np.testing.assert_array_equal(bf16.canonical(ALL), expected)


def test_rounding_is_that_of_ml_dtypes_for_ordinary_results() -> None:
    lows = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    values = ((ALL.astype(np.uint32) << 16)[:, None] | lows).ravel().view(np.float32)
    ordinary = values[(np.abs(values) >= 2.0**-126) & (np.abs(values) <= 3.38e38)]
    np.testing.assert_array_equal(bf16.from_float(ordinary), ordinary.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_table_and_arithmetic_write_alike() -> None:
    lows = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    values = ((ALL.astype(np.uint32) << 16)[:, None] | lows).ravel().view(np.float32)
    small = [bf16.from_float(part) for part in np.split(values, 1 << 11)]
    np.testing.assert_array_equal(bf16.from_float(values), np.concatenate(small))


@given(FLOAT_BITS)
def test_any_float32_is_written_as_the_twin_writes_it(bits: int) -> None:
    value = _float(bits)
    expected = spec.write(spec.Fraction(float(value[0])) if np.isfinite(value[0]) else None)
    assert int(bf16.from_float(value)[0]) == expected


def test_just_below_the_smallest_normal_is_zero_even_where_rounding_would_lift_it() -> None:
    assert bf16.from_float(_float(0x007FFFFF)).tolist() == [0]
    assert bf16.from_float(_float(0x807FFFFF)).tolist() == [0]


def test_overflow_of_either_sign_gives_the_largest_positive_number() -> None:
    assert bf16.from_float(_float(0x7F7F7FFF)).tolist() == [0x7F7F]
    assert bf16.from_float(_float(0xFF7F7FFF)).tolist() == [0xFF7F]
    assert bf16.from_float(_float(0xFF7F8000)).tolist() == [0x7F7F]
    assert bf16.from_float(np.array([-np.inf, np.inf, np.nan], np.float32)).tolist() == [0x7F7F] * 3


@given(FLOAT_BITS)
def test_flush_keeps_normal_numbers_and_nothing_smaller(bits: int) -> None:
    value = _float(bits)
    flushed = bf16.flush(value.copy())[0]
    if np.abs(value[0]) < 2.0**-126:
        assert flushed == 0 and not np.signbit(flushed)
    else:
        assert flushed.tobytes() == value[0].tobytes()

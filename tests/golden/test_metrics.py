"""Laws of the measures, and their values where a third party gives them."""

from __future__ import annotations

import math
from collections.abc import Callable

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from golden import GoldenError, metrics
from tests.golden.strategies import FINITE_FLOATS, SIGNALLING_NANS, finite_bf16, float_arrays, pairs_of, tensors

INT_DTYPES = st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64])
BF16_NUMBERS = np.unique(np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float32))
"""In ascending order: -0.0 and 0.0 are one number, NaN comes last."""
INT_PAIRS = INT_DTYPES.flatmap(lambda dtype: pairs_of(lambda shape: hnp.arrays(dtype, shape)))


@given(float_arrays())
def test_an_array_is_at_distance_zero_from_itself(x: np.ndarray) -> None:
    assert metrics.abs_error(x, x).max() == metrics.rel_error(x, x).max() == metrics.ulp_distance(x, x).max() == 0
    assert metrics.euclidean_similarity(x, x) == 1.0
    assert metrics.sqnr_db(x, x) == math.inf
    assert metrics.cosine_similarity(x, x) == pytest.approx(1.0 if x.any() else 0.0, abs=1e-12)


@given(pairs_of(float_arrays))
def test_all_measures_but_sqnr_and_relative_error_are_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    for measure in (metrics.cosine_similarity, metrics.euclidean_similarity):
        assert measure(x, y) == measure(y, x)
    assert np.array_equal(metrics.abs_error(x, y), metrics.abs_error(y, x))
    assert np.array_equal(metrics.ulp_distance(x, y), metrics.ulp_distance(y, x))


@given(pairs_of(float_arrays), st.integers(-60, 60))
def test_cosine_does_not_depend_on_the_scale_of_either_side(pair: tuple[np.ndarray, np.ndarray], exponent: int) -> None:
    x, y = (side.astype(np.float64) for side in pair)
    assert metrics.cosine_similarity(x * 2.0**exponent, y) == pytest.approx(metrics.cosine_similarity(x, y), abs=1e-12)


@given(pairs_of(float_arrays))
def test_cosine_lies_between_minus_one_and_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert -1 <= metrics.cosine_similarity(*pair) <= 1


@given(float_arrays())
def test_cosine_of_an_array_with_its_negative_is_minus_one(x: np.ndarray) -> None:
    assume(x.any())
    assert metrics.cosine_similarity(-x, x) == pytest.approx(-1.0, abs=1e-12)


@given(float_arrays(), st.sampled_from([1e-300, 1e-160, 1e160, 1e250]))
def test_cosine_survives_numbers_whose_squares_do_not_fit(x: np.ndarray, scale: float) -> None:
    far = x.astype(np.float64) / np.abs(x).max() * scale if x.any() else x
    assert metrics.cosine_similarity(far, x) == pytest.approx(1.0 if x.any() else 0.0, abs=1e-9)


@pytest.mark.parametrize("measure", [metrics.cosine_similarity, metrics.euclidean_similarity, metrics.sqnr_db])
def test_nan_in_is_nan_out(measure: Callable[[np.ndarray, np.ndarray], float]) -> None:
    assert math.isnan(measure(np.array([math.nan, 1.0]), np.array([2.0, 1.0])))


@pytest.mark.parametrize("nan", SIGNALLING_NANS, ids=lambda nan: nan.dtype.name)
def test_a_signalling_nan_is_measured_as_a_quiet_one_without_a_warning(nan: np.ndarray) -> None:
    finite = np.array([0x4000, 0x3F80], np.uint16) if nan.dtype == np.uint16 else np.array([2, 1]).astype(nan.dtype)
    broken = np.append(nan, finite[1:])
    for target, reference in ((broken, finite), (finite, broken), (broken, broken)):
        for measure in (metrics.cosine_similarity, metrics.euclidean_similarity, metrics.sqnr_db):
            assert math.isnan(measure(target, reference))
        assert np.isnan(metrics.abs_error(target, reference)).tolist() == [True, False]
        assert np.isnan(metrics.rel_error(target, reference)).tolist() == [True, False]
        assert metrics.close_order(target, reference) is None
        if nan.dtype != np.float64:
            assert metrics.ulp_distance(target, reference).tolist() == [metrics.NAN_DISTANCE, 0]


def test_cosine_with_an_infinity_is_nan() -> None:
    assert math.isnan(metrics.cosine_similarity(np.array([math.inf, 1.0]), np.array([2.0, 1.0])))


@given(pairs_of(float_arrays))
def test_euclidean_similarity_is_at_most_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert metrics.euclidean_similarity(*pair) <= 1


def test_euclidean_similarity_is_zero_where_a_norm_overflows() -> None:
    assert metrics.euclidean_similarity(np.array([1e200]), np.array([-1e200])) == 0.0


def test_sqnr_of_one_part_in_ten_is_twenty_decibels() -> None:
    signal = np.array([10.0, -10.0, 10.0, -10.0])
    assert metrics.sqnr_db(signal, signal * 0.9) == pytest.approx(20.0)


@given(INT_PAIRS)
def test_integers_are_widened_before_they_are_subtracted(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    exact = [abs(int(a) - int(b)) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    assert metrics.abs_error(x, y).tolist() == exact


def test_signed_and_unsigned_integers_are_subtracted_as_numbers() -> None:
    assert metrics.abs_error(np.array([-128], np.int8), np.array([255], np.uint8)).tolist() == [383]
    assert metrics.abs_error(np.array([-1]), np.array([2**64 - 1], np.uint64))[0] == 2.0**64


def test_relative_error_is_of_the_reference_and_infinite_at_its_zeros() -> None:
    target, reference = np.array([2.0, 1.0, 0.0, -3.0]), np.array([1.0, 0.0, 0.0, -2.0])
    assert metrics.rel_error(target, reference).tolist() == [1.0, math.inf, 0.0, 0.5]


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_bf16_ulps_count_the_numbers_between_two_patterns(a: int, b: int) -> None:
    x, y = (np.array([bits], np.uint16).view(ml_dtypes.bfloat16) for bits in (a, b))
    distance = int(metrics.ulp_distance(x, y)[0])
    if max(a & 0x7FFF, b & 0x7FFF) > 0x7F80:
        assert distance == metrics.NAN_DISTANCE
    else:
        places = np.searchsorted(BF16_NUMBERS, np.concatenate([x, y]).astype(np.float32))
        assert distance == abs(int(places[0]) - int(places[1]))


@given(finite_bf16(), st.data())
def test_bf16_ulps_are_the_same_for_patterns_and_ml_dtypes(x: np.ndarray, data: st.DataObject) -> None:
    y = data.draw(finite_bf16(x.shape))
    as_patterns = metrics.ulp_distance(x, y)
    assert np.array_equal(as_patterns, metrics.ulp_distance(x.view(ml_dtypes.bfloat16), y.view(ml_dtypes.bfloat16)))
    assert np.array_equal(as_patterns, metrics.ulp_distance(x.view(ml_dtypes.bfloat16), y))


@given(FINITE_FLOATS)
def test_the_next_float32_is_one_ulp_away(x: float) -> None:
    here = np.array([x], np.float32)
    assert metrics.ulp_distance(here, np.nextafter(here, np.float32(math.inf))).tolist() == [1]


def test_ulps_reach_from_the_largest_float_to_infinity_in_one() -> None:
    largest = np.array([np.finfo(np.float32).max])
    assert metrics.ulp_distance(largest, np.array([math.inf], np.float32)).tolist() == [1]
    assert metrics.ulp_distance(np.array([-0.0], np.float32), np.array([0.0], np.float32)).tolist() == [0]


def test_nan_is_infinitely_far_even_from_itself() -> None:
    nan = np.array([math.nan], np.float32)
    assert metrics.ulp_distance(nan, nan).tolist() == [metrics.NAN_DISTANCE]


@pytest.mark.parametrize(
    ("x", "y"), [(np.float32, np.float64), (np.float64, np.float64), (np.uint16, np.float32), (np.int8, np.int8)]
)
def test_ulps_of_unlike_or_unfit_formats_are_refused(x: type, y: type) -> None:
    with pytest.raises(GoldenError, match="both must be bf16, float16 or float32"):
        metrics.ulp_distance(np.zeros(1, x), np.zeros(1, y))


@pytest.mark.parametrize(("error", "order"), [(0.5e-5, 5), (0.5e-4, 4), (0.5e-3, 3), (0.5e-2, None)])
def test_close_order_is_the_number_of_digits_that_agree(error: float, order: int | None) -> None:
    reference = np.array([1.0, -2.0, 4.0])
    assert metrics.close_order(reference * (1 + error), reference) == order


@pytest.mark.parametrize(("error", "order"), [(0.9e-8, 5), (1.1e-8, None)])
def test_close_forgives_a_hundred_millionth_at_zero(error: float, order: int | None) -> None:
    assert metrics.close_order(np.array([error]), np.array([0.0])) == order


@given(tensors())
def test_sizes_must_agree(x: np.ndarray) -> None:
    with pytest.raises(GoldenError, match="the sizes must be the same"):
        metrics.cosine_similarity(x, np.append(x, x))

"""Which arrays compare calls equal, close or similar, and which it never accepts."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from golden import GoldenError, Similarity, Verdict, compare
from tests.golden.strategies import SIGNALLING_NANS, finite_bf16, float_arrays, pairs_of, tensors

Tensors = dict[str, np.ndarray]
TOLERANCES = st.sampled_from([0, 0.5, "0.99,0.9", (1.0, 1.0), {"": 0.0}])


def verdict(target: np.ndarray, reference: np.ndarray, tolerance: object = "0.99,0.9", **options: Any) -> Verdict:
    return compare({"x": target}, {"x": reference}, tolerance, **options)["x"].verdict


@given(tensors(), TOLERANCES)
def test_a_tensor_is_equal_to_itself_under_every_tolerance(x: np.ndarray, tolerance: object) -> None:
    result = compare({"x": x}, {"x": x.copy()}, tolerance)
    assert result and result["x"].verdict is Verdict.EQUAL
    assert result["x"].errors is not None and result["x"].errors.num_bits_differ == 0


@given(st.one_of(float_arrays(), finite_bf16()), TOLERANCES, st.booleans(), st.data())
def test_nan_never_matches(x: np.ndarray, tolerance: object, infinities_match: bool, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, x.size - 1))
    x.ravel()[place] = 0x7FC0 if x.dtype == np.uint16 else math.nan
    result = compare({"x": x}, {"x": x.copy()}, tolerance, infinities_match=infinities_match)["x"]
    assert not result and result.smallest_tolerance is None
    assert result.errors is not None and result.errors.worst_index == tuple(
        int(i) for i in np.unravel_index(place, x.shape)
    )


@pytest.mark.parametrize("nan", SIGNALLING_NANS, ids=lambda nan: nan.dtype.name)
@pytest.mark.parametrize("other", [np.float64, np.float32, np.int64, np.int8, None])
def test_a_signalling_nan_never_matches_and_gives_no_warning(nan: np.ndarray, other: type | None) -> None:
    there = nan if other is None else np.zeros(1, other)
    assert not verdict(nan, there).passed
    assert not verdict(there, nan, infinities_match=True).passed


@pytest.mark.parametrize("tolerance", [0, "0.5,0.5", 1e30])
def test_infinities_match_only_when_asked_and_only_their_like(tolerance: object) -> None:
    here, there = np.array([1.0, math.inf], np.float32), np.array([1.0, -math.inf], np.float32)
    assert not verdict(here, here, tolerance).passed
    assert verdict(here, here, tolerance, infinities_match=True) is Verdict.EQUAL
    assert not verdict(here, there, tolerance, infinities_match=True).passed
    assert not verdict(here, np.ones(2, np.float32), tolerance, infinities_match=True).passed


def test_the_rest_of_a_tensor_is_measured_around_infinities_that_match() -> None:
    errors = compare({"x": np.array([math.inf, 2.0])}, {"x": np.array([math.inf, 1.5])}, 1, infinities_match=True)[
        "x"
    ].errors
    assert errors is not None
    assert (errors.max_abs, errors.num_mismatches, errors.worst_index) == (0.5, 1, (1,))


@given(
    st.one_of(pairs_of(float_arrays), pairs_of(finite_bf16), pairs_of(lambda shape: hnp.arrays(np.int8, shape))),
    TOLERANCES,
)
def test_the_smallest_tolerance_told_would_have_passed(pair: tuple[np.ndarray, np.ndarray], tolerance: object) -> None:
    target, reference = ({"x": side} for side in pair)
    result = compare(target, reference, tolerance)
    assert result.smallest_tolerance is not None
    assert compare(target, reference, result.smallest_tolerance)
    assert compare(target, reference, {"x": result["x"].smallest_tolerance})


@given(pairs_of(float_arrays))
def test_a_number_passes_from_the_largest_error_on_and_not_below(pair: tuple[np.ndarray, np.ndarray]) -> None:
    errors = compare({"x": pair[0]}, {"x": pair[1]})["x"].errors
    assert errors is not None
    assume(errors.max_abs > 0)
    assert verdict(*pair, errors.max_abs) is Verdict.CLOSE
    assert verdict(*pair, math.nextafter(errors.max_abs, 0)) is Verdict.NOT_EQUAL


def test_similarities_must_exceed_the_tolerance_and_not_merely_reach_it() -> None:
    target, reference = np.array([3.0, 4.0]), np.array([4.0, 3.0])
    errors = compare({"x": target}, {"x": reference})["x"].errors
    assert errors is not None and errors.cosine == pytest.approx(0.96)
    assert verdict(target, reference, (errors.cosine, -1.0)) is Verdict.NOT_SIMILAR
    assert verdict(target, reference, (-1.0, errors.euclidean)) is Verdict.NOT_SIMILAR
    assert (
        verdict(target, reference, (math.nextafter(errors.cosine, 0), math.nextafter(errors.euclidean, -1)))
        is Verdict.SIMILAR
    )


@given(pairs_of(float_arrays))
def test_the_worst_index_points_at_the_largest_error(pair: tuple[np.ndarray, np.ndarray]) -> None:
    target, reference = pair
    errors = compare({"x": target}, {"x": reference})["x"].errors
    assert errors is not None
    if errors.worst_index is None:
        assert np.array_equal(target, reference)
    else:
        here, there = float(target[errors.worst_index]), float(reference[errors.worst_index])
        assert (here, there) == (errors.worst_target, errors.worst_reference)
        assert abs(here - there) == errors.max_abs


def test_smallest_tolerance_of_mixed_kinds_is_the_largest_error_of_all() -> None:
    target: Tensors = {"i": np.array([3], np.int8), "f": np.array([1.0, -9.0], np.float32)}
    reference: Tensors = {"i": np.array([1], np.int8), "f": np.array([8.0, 9.0], np.float32)}
    result = compare(target, reference)
    assert result["i"].smallest_tolerance == 2.0 and isinstance(result["f"].smallest_tolerance, Similarity)
    assert result.smallest_tolerance == 18.0 and compare(target, reference, 18.0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.bool_])
def test_integers_one_apart_are_not_equal_under_similarities(dtype: type) -> None:
    reference: np.ndarray = np.ones(1000, dtype)
    target = reference.copy()
    target[7] = 0
    assert verdict(target, reference) is Verdict.NOT_EQUAL
    assert verdict(target, reference, integers_equal=False) is Verdict.SIMILAR
    assert verdict(target, reference, 1) is Verdict.CLOSE


def test_float_reference_is_not_cut_to_int8_before_it_is_compared() -> None:
    assert verdict(np.array([5, 6], np.int8), np.array([5.4, 6.0], np.float32)) is Verdict.NOT_EQUAL
    assert verdict(np.array([5, 6], np.int8), np.array([5.0, 6.0], np.float32)) is Verdict.EQUAL


def test_bf16_patterns_equal_the_floats_they_stand_for() -> None:
    values = np.array([1.5, -0.25, 3e38], ml_dtypes.bfloat16)
    assert verdict(values.view(np.uint16), values.astype(np.float32)) is Verdict.EQUAL
    assert verdict(values.view(np.uint16), values) is Verdict.EQUAL


def test_zeros_of_either_sign_are_equal_but_told_apart() -> None:
    result = compare({"x": np.array([0x8000, 0], np.uint16)}, {"x": np.array([0, 0], np.uint16)}, 0)["x"]
    assert result.verdict is Verdict.EQUAL and result.errors is not None
    assert result.errors.num_bits_differ == 1 and "different bits" in result.note


@pytest.mark.parametrize("shape", [(2, 3), (6,), (3, 2, 2), (4, 3), (0,)])
def test_other_shapes_are_not_match_and_nothing_is_measured(shape: tuple[int, ...]) -> None:
    result = compare({"x": np.zeros(shape)}, {"x": np.zeros((3, 2))}, 1e9)["x"]
    assert result.verdict is Verdict.NOT_MATCH and result.errors is None and result.smallest_tolerance is None
    assert result.note == f"target has shape {shape}, reference (3, 2)"


def test_axes_of_length_one_do_not_count_because_a_cvimodel_pads_to_four() -> None:
    assert verdict(np.ones((1, 16, 64, 1)), np.ones((16, 64))) is Verdict.EQUAL


def test_empty_tensors_are_equal() -> None:
    assert verdict(np.zeros((0, 3)), np.zeros((0, 3))) is Verdict.EQUAL


def test_nothing_in_common_fails_and_shows_both_lists_of_names() -> None:
    result = compare({"a": np.zeros(1), "b": np.zeros(1)}, {"c": np.zeros(1)})
    assert not result
    assert result.message == "nothing in common: the target has a, b, the reference has c; tensors are matched by name"


@pytest.mark.parametrize(("target", "reference"), [({}, {}), ({"a": np.zeros(1)}, {}), ({}, {"a": np.zeros(1)})])
def test_comparing_with_nothing_fails(target: Tensors, reference: Tensors) -> None:
    assert not compare(target, reference)


def test_excepting_everything_fails() -> None:
    result = compare({"a": np.zeros(1)}, {"a": np.zeros(1)}, excepts=["a"])
    assert not result and result.excepted == ("a",) and "once a is excepted" in result.message


def test_tensors_on_one_side_are_listed_and_do_not_fail() -> None:
    result = compare({"a": np.zeros(1), "t": np.zeros(1)}, {"r": np.zeros(1), "a": np.zeros(1)})
    assert result and result.only_in_target == ("t",) and result.only_in_reference == ("r",)


def test_names_with_a_tolerance_or_an_exception_that_no_tensor_has_are_reported() -> None:
    result = compare({"a": np.zeros(1)}, {"a": np.zeros(1)}, {"": 0, "b": 0}, excepts=["c"])
    assert result and result.unknown_names == ("b", "c")


def test_each_tensor_is_judged_by_its_own_tolerance_in_the_references_order() -> None:
    target = {"a": np.array([1.1]), "b": np.array([1.1])}
    reference = {"b": np.array([1.0]), "a": np.array([1.0])}
    seen: list[str] = []
    result = compare(target, reference, {"": 0, "a": 0.2}, on_tensor=lambda tensor: seen.append(tensor.name))
    assert [(tensor.name, tensor.verdict) for tensor in result.tensors] == [
        ("b", Verdict.NOT_EQUAL),
        ("a", Verdict.CLOSE),
    ]
    assert seen == ["b", "a"] and [tensor.name for tensor in result.failed] == ["b"]
    assert result.message == "2 compared, 1 failed: 1 CLOSE, 1 NOT_EQUAL"


@given(st.lists(st.sampled_from([0.0, -1.5, math.nan, math.inf, -math.inf, 3e38]), min_size=1, max_size=4), TOLERANCES)
def test_every_result_is_strict_json(values: list[float], tolerance: object) -> None:
    target = {"x": np.array(values), "y": np.zeros(3), "t": np.zeros(1)}
    result = compare(target, {"x": np.array(values[::-1]), "y": np.zeros(2), "r": np.zeros(1)}, tolerance)
    read_back = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert read_back["passed"] is bool(result)
    assert [tensor["verdict"] for tensor in read_back["tensors"]] == [str(tensor.verdict) for tensor in result.tensors]


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None]), np.zeros(1, "V2")])
def test_what_is_not_a_number_is_refused_by_name(array: np.ndarray) -> None:
    with pytest.raises(GoldenError, match=r"^tensor x: dtype .* cannot be compared: give bool, integers, floats"):
        compare({"x": array}, {"x": array})

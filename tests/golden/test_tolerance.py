"""How tolerances are written, and which ones are refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import GoldenError, Similarity, Tolerances, as_tolerance
from golden.tolerance import VENDOR_DEFAULT, smallest_passing


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0, 0.0),
        (0.25, 0.25),
        ("1e-3", 1e-3),
        ("0.99,0.9", Similarity(0.99, 0.9)),
        ((0.99, 0.9), Similarity(0.99, 0.9)),
        ([0.99, -5], Similarity(0.99, -5.0)),
        (Similarity(1, 1), Similarity(1, 1)),
    ],
)
def test_a_tolerance_is_a_number_or_a_pair_of_similarities(written: object, meant: float | Similarity) -> None:
    assert as_tolerance(written) == meant


@pytest.mark.parametrize(
    "written", [-1, math.nan, math.inf, "", "0.99,", "0.9,0.9,0.9", "high", None, {}, "1.01,0.9", "0.9,nan"]
)
def test_a_tolerance_that_means_nothing_is_refused(written: object) -> None:
    with pytest.raises(GoldenError, match=r"^tolerance "):
        as_tolerance(written)


def test_the_empty_name_is_the_default_of_a_mapping() -> None:
    tolerances = Tolerances.of({"": 0, "y": "0.9,0.8"})
    assert tolerances["x"] == 0.0
    assert tolerances["y"] == Similarity(0.9, 0.8)


def test_a_mapping_without_the_empty_name_falls_back_on_the_vendors_default() -> None:
    assert Tolerances.of({"y": 0})["x"] == VENDOR_DEFAULT == Similarity(0.99, 0.99)


def test_names_that_no_tensor_has_are_unknown() -> None:
    assert Tolerances.of({"": 0, "y": 0, "z": 0}).unknown(["x", "y"]) == ("z",)


@given(st.floats(-1, 1), st.floats(-1e300, 1))
def test_the_smallest_passing_pair_is_exceeded_and_reads_back_from_its_text_exceeded(
    cosine: float, euclidean: float
) -> None:
    for pair in (smallest_passing(cosine, euclidean), as_tolerance(str(smallest_passing(cosine, euclidean)))):
        assert isinstance(pair, Similarity)
        assert pair.cosine < cosine and (pair.euclidean < euclidean or abs(euclidean) > 1e5)


def test_the_smallest_passing_pair_has_six_decimals() -> None:
    assert smallest_passing(0.9998134, 0.75) == Similarity(0.999813, 0.749999)

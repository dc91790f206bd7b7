"""Agreement of logits: known values, ties, masks and NaN."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import GoldenError
from golden.logits import argmax_agreement, kl_divergence, top_k_overlap
from tests.golden.strategies import SIGNALLING_NANS

LOGITS = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=st.floats(-100, 100, width=32))] * 2)
)


@given(LOGITS)
def test_logits_agree_with_themselves_entirely(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, _ = pair
    assert argmax_agreement(x, x) == 1.0
    assert all(top_k_overlap(x, x, k) == 1.0 for k in range(1, x.shape[-1] + 1))
    assert kl_divergence(x, x) == 0.0


@given(LOGITS)
def test_kl_is_not_negative_and_finite_for_finite_logits(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert 0 <= kl_divergence(*pair) < math.inf


@given(LOGITS, st.floats(-1e4, 1e4))
def test_kl_does_not_change_when_a_constant_is_added_to_all_logits(
    pair: tuple[np.ndarray, np.ndarray], shift: float
) -> None:
    target, reference = (side.astype(np.float64) for side in pair)
    assert kl_divergence(target + shift, reference) == pytest.approx(kl_divergence(target, reference), abs=1e-9)


@given(LOGITS)
def test_kl_is_the_textbook_sum(pair: tuple[np.ndarray, np.ndarray]) -> None:
    target, reference = (side.astype(np.float64).reshape(-1, side.shape[-1]) for side in pair)
    rows = []
    for t, r in zip(target, reference, strict=True):
        q, p = (
            [math.exp(x - max(row)) / math.fsum(math.exp(y - max(row)) for y in row) for x in row] for row in (t, r)
        )
        rows.append(math.fsum(b * math.log(b / a) for a, b in zip(q, p, strict=True) if b))
    assert kl_divergence(target, reference) == pytest.approx(sum(rows) / len(rows), rel=1e-9, abs=1e-9)


def test_kl_stays_finite_where_exp_would_overflow() -> None:
    assert kl_divergence(np.array([0.0, 5000.0]), np.array([5000.0, 0.0])) == 5000.0


def test_kl_is_zero_under_a_common_mask_and_infinite_where_only_the_target_masks() -> None:
    masked = np.array([1.0, -math.inf, 2.0])
    assert kl_divergence(masked, masked) == 0.0
    assert kl_divergence(masked, np.array([1.0, 1.0, 2.0])) == math.inf


def test_argmax_agreement_is_the_share_of_rows() -> None:
    target = np.array([[1, 2], [2, 1], [5, 0], [0, 1]], np.int8)
    reference = np.array([[0, 9], [0, 1], [1, 0], [2, 2]], np.int8)
    assert argmax_agreement(target, reference) == 0.5  # the tie in the last row goes to index 0


def test_top_k_overlap_is_the_share_of_indices_in_common_whatever_their_order() -> None:
    target, reference = np.array([[9.0, 8.0, 7.0, 0.0]]), np.array([[7.0, 8.0, 0.0, 9.0]])
    assert top_k_overlap(target, reference, 2) == 0.5
    assert top_k_overlap(target, reference, 3) == pytest.approx(2 / 3)
    assert top_k_overlap(target, reference, 4) == 1.0


def test_int8_logits_rank_minus_128_last() -> None:
    logits = np.array([-128, -127, 3], np.int8)
    assert top_k_overlap(logits, np.array([-9.0, -8.0, 0.0]), 2) == 1.0


def test_a_row_with_nan_agrees_with_nothing() -> None:
    bad = np.array([[math.nan, 1.0], [0.0, 1.0]])
    assert argmax_agreement(bad, bad) == 0.5
    assert top_k_overlap(bad, bad, 1) == 0.5
    assert math.isnan(kl_divergence(bad, bad))


@pytest.mark.parametrize("nan", SIGNALLING_NANS, ids=lambda nan: nan.dtype.name)
def test_a_row_with_a_signalling_nan_agrees_with_nothing(nan: np.ndarray) -> None:
    bad = np.stack([np.append(nan, np.ones(1, nan.dtype)), np.zeros(2, nan.dtype)])
    assert argmax_agreement(bad, bad) == top_k_overlap(bad, bad, 1) == 0.5
    assert math.isnan(kl_divergence(bad, bad))


@pytest.mark.parametrize("k", [0, 3, -1])
def test_k_outside_the_vocabulary_is_refused(k: int) -> None:
    with pytest.raises(GoldenError, match=f"k is {k}: it must be from 1 to the number of logits, 2"):
        top_k_overlap(np.zeros((1, 2)), np.zeros((1, 2)), k)


def test_logits_of_unlike_shapes_are_refused() -> None:
    with pytest.raises(GoldenError, match=r"shapes \(2,\) and \(3,\)"):
        argmax_agreement(np.zeros(2), np.zeros(3))

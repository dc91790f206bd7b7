"""Quantised matrices against exact integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_model.quant import arith
from reference_model.quant.arith import floats, patterns
from reference_model.quant.fidelity import sqnr
from reference_model.quant.linear import (
    Bf16Linear,
    Int8ActivationLinear,
    Int8Linear,
    quantise_rows,
    quantised_multiplier,
)

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((40, 96)).astype(np.float32) * np.exp(RNG.uniform(-3, 3, (40, 1))).astype(np.float32)
X = patterns(RNG.standard_normal((9, 96)))
EXACT = floats(X) @ WEIGHT.T


def test_int8_rows_are_off_by_half_a_step_at_most() -> None:
    quantised, scale = quantise_rows(WEIGHT)
    error = np.abs(quantised * floats(scale)[:, None] - WEIGHT) / floats(scale)[:, None]
    assert quantised.min() >= -127
    assert (
        error.max() <= 0.75
    )  # the scale is rounded, so that the largest weight may lie a quarter of a step beyond 127
    assert np.median(error) < 0.3


def test_a_row_of_zeros_stays_zero() -> None:
    quantised, scale = quantise_rows(np.zeros((2, 8), np.float32))
    assert not quantised.any()
    assert (floats(scale) == 1).all()


@pytest.mark.parametrize(("kind", "decibels"), [(Bf16Linear, 45), (Int8Linear, 34)])
def test_products_are_within_the_noise_of_their_precision(kind: type[Bf16Linear | Int8Linear], decibels: float) -> None:
    assert sqnr(EXACT, floats(kind.of(WEIGHT).product(X))).min() > decibels


def test_int8_weights_multiply_as_integers_and_scale_once() -> None:
    linear = Int8Linear.of(WEIGHT)
    sums = arith.matmul(X, patterns(linear.quantised.T))
    np.testing.assert_array_equal(linear.product(X), arith.mul(sums, linear.scale))
    residual = patterns(RNG.standard_normal((9, 40)))
    np.testing.assert_array_equal(linear.add_to(residual, X), arith.mac(residual, sums, linear.scale))


def test_int8_activations_are_within_the_noise_of_two_roundings() -> None:
    linear = Int8ActivationLinear.of(WEIGHT, np.abs(floats(X)).max(0), np.abs(EXACT).max(0))
    assert sqnr(EXACT, floats(linear.product(X))).min() > 28


def test_smoothing_saves_what_one_huge_input_would_drown() -> None:
    loud = floats(X).copy()
    loud[:, 5] *= 300
    x, exact = patterns(loud), floats(patterns(loud)) @ WEIGHT.T
    rough, smooth = (
        Int8ActivationLinear.of(WEIGHT, np.abs(loud).max(0), np.abs(exact).max(0), smoothing)
        for smoothing in (0.0, 0.7)
    )
    noises = [np.linalg.norm(floats(linear.product(x)) - exact) for linear in (rough, smooth)]
    assert noises[1] < noises[0] / 1.5


def test_int8_activations_beyond_their_range_saturate() -> None:
    linear = Int8ActivationLinear.of(np.eye(4, dtype=np.float32), np.ones(4), np.ones(4))
    np.testing.assert_allclose(floats(linear.product(patterns(np.full((1, 4), 50.0)))), 1, rtol=0.02)
    np.testing.assert_allclose(floats(linear.product(patterns(np.full((1, 4), -50.0)))), -128 / 127, rtol=0.02)


@given(st.floats(2.0**-30, 1.0, exclude_max=True))
def test_a_quantised_multiplier_is_near_its_factor(real: float) -> None:
    multiplier, shift = quantised_multiplier(np.array([real]))
    assert 1 << 30 <= multiplier[0] < 1 << 31
    assert 0 <= shift[0] <= 31
    assert abs(multiplier[0] / 2.0 ** (31 + shift[0]) - real) <= real * 2.0**-31

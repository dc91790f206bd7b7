"""Functions by table at all their arguments, and the layout of the tables.

Errors are in units of the last place of bf16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from reference_model.quant import ops, tables
from reference_model.quant.arith import floats, patterns

EVERY = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
with np.errstate(invalid="ignore"):
    VALUES = floats(EVERY).astype(np.float64)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def power(exponent: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: x**exponent


CASES = {  # function, lowest and highest argument, largest error in units of the last place
    "exp": (np.exp, -15.9, 0.0, 1.2),
    "silu": (silu, -15.9, 1e30, 1.6),
    "gelu_tanh": (gelu, -2.0, 1e30, 1.8),
    "reciprocal": (power(-1), 2.0**-63, 2.0**64, 0.5),
    "rsqrt": (power(-0.5), 2.0**-63, 2.0**64, 0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_error_stays_below_its_bound_at_every_argument(name: str) -> None:
    function, low, high, bound = CASES[name]
    inside = (low <= VALUES) & (high >= VALUES) & (np.abs(VALUES) >= 2.0**-100)
    exact = function(VALUES[inside])
    last_place = np.exp2(np.floor(np.log2(np.abs(exact))) - 7)
    error = np.abs(floats(getattr(ops, name)(EVERY[inside])) - exact) / last_place
    assert inside.sum() > 10_000
    assert error.max() <= bound


@pytest.mark.parametrize(("name", "function", "bound"), [("silu", silu, 2e-6), ("gelu_tanh", gelu, 2.5e-4)])
def test_far_negative_arguments_give_next_to_nothing(name: str, function: Callable, bound: float) -> None:
    far = ({"silu": -15.9, "gelu_tanh": -2.0}[name] > VALUES) & (VALUES > -600)
    result = floats(getattr(ops, name)(EVERY[far]))
    assert np.abs(result - function(VALUES[far])).max() <= bound
    assert not getattr(ops, name)(EVERY[(VALUES < -16) & (VALUES > -1e30)]).any()


def test_exp_is_one_at_zero_and_exactly_zero_for_masked_scores() -> None:
    assert floats(ops.exp(patterns(np.zeros(1))))[0] == 1
    below = EVERY[(VALUES <= -15.95) & (VALUES > -1e38)]
    assert not ops.exp(below).any()
    assert not ops.exp(ops.add(below, ops.MASKED)).any()


def test_every_step_of_an_interpolating_table_is_one_step_wide() -> None:
    """Index 0 too, which rounding toward zero would make two steps wide."""
    table = tables.sigmoid_table()
    x = EVERY[(np.abs(VALUES) <= 15.5)]
    step = np.rint(floats(x).astype(np.float64) * table.scale).astype(int)
    near = floats(tables.lookup(table.base, step & 0xFF))
    assert np.abs(floats(tables.interpolate(table, x)) - near).max() <= 0.5 * floats(table.slope).max() + 2.0**-8


def test_scientific_tables_take_the_parity_of_the_exponent_from_the_low_byte() -> None:
    for exponent in range(-60, 61):
        x = patterns(np.ldexp(1 + np.arange(128) / 128, exponent))
        np.testing.assert_array_equal(floats(ops.rsqrt(x)), floats(patterns(floats(x).astype(np.float64) ** -0.5)))


def test_lookup_reads_the_low_byte_alone() -> None:
    table = patterns(np.arange(256))
    np.testing.assert_array_equal(tables.lookup(table, EVERY), table[EVERY & 0xFF])

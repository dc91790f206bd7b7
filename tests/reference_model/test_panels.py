"""Products of a matrix in panels against the plain product, at any shape."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference_model.panels import MANY_ROWS, PANEL, Panels

ROWS = st.one_of(st.integers(0, 9), st.integers(MANY_ROWS - 2, MANY_ROWS + 2))
WIDTHS = st.one_of(st.integers(1, 2 * PANEL + 1), st.integers(8 * PANEL - 1, 8 * PANEL + 1))


def case(seed: int, rows: int, depth: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x [rows, depth] and a weight [width, depth]."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, depth)).astype(np.float32), rng.standard_normal((width, depth)).astype(np.float32)


@given(seed=st.integers(0, 999), rows=ROWS, depth=st.integers(1, 70), width=WIDTHS)
def test_product_is_the_plain_one_but_for_the_order_of_sums(seed: int, rows: int, depth: int, width: int) -> None:
    x, weight = case(seed, rows, depth, width)
    product = Panels.of(weight).product(x)
    exact = x.astype(np.float64) @ weight.T
    bound = depth * np.finfo(np.float32).eps * (np.abs(x).astype(np.float64) @ np.abs(weight.T))
    assert product.shape == (rows, width) and product.dtype == np.float32
    assert (np.abs(product - exact) <= bound).all()


@given(seed=st.integers(0, 999), depth=st.integers(1, 20), width=WIDTHS, cut=st.integers(1, 150))
def test_a_matrix_gathered_in_any_parts_gives_its_weight_back(seed: int, depth: int, width: int, cut: int) -> None:
    _, weight = case(seed, 0, depth, width)
    panels = Panels.gather(depth, width, (weight[start : start + cut] for start in range(0, width, cut)))
    np.testing.assert_array_equal(panels.weight(), weight)
    which = np.random.default_rng(seed).integers(0, width, 5)
    np.testing.assert_array_equal(panels.columns(which), weight[which])
    laid = [right.T.copy() for _, right in panels.side_by_side()]
    np.testing.assert_array_equal(np.concatenate(laid), weight)


def test_a_weight_that_was_given_out_is_a_copy() -> None:
    _, weight = case(0, 0, 1, 3)
    panels = Panels.of(weight)
    panels.weight()[...] = 0
    np.testing.assert_array_equal(panels.weight(), weight)

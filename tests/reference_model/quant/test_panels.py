"""A matrix in panels gives back what was put in, at any shape."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference_model.quant.panels import PANEL, Panels

WIDTHS = st.one_of(st.integers(1, 2 * PANEL + 1), st.integers(8 * PANEL - 1, 8 * PANEL + 1))


@given(seed=st.integers(0, 999), depth=st.integers(1, 20), width=WIDTHS, cut=st.integers(1, 150))
def test_a_matrix_gathered_in_any_parts_gives_its_weight_back(seed: int, depth: int, width: int, cut: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((width, depth)).astype(np.float32)
    panels = Panels.gather(depth, width, (weight[start : start + cut] for start in range(0, width, cut)))
    np.testing.assert_array_equal(panels.weight(), weight)
    which = np.random.default_rng(seed).integers(0, width, 5)
    np.testing.assert_array_equal(panels.columns(which), weight[which])
    laid = [right.T.copy() for _, right in panels.side_by_side()]
    np.testing.assert_array_equal(np.concatenate(laid), weight)


def test_a_weight_that_was_given_out_is_a_copy() -> None:
    weight = np.ones((3, 1), np.float32)
    panels = Panels.of(weight)
    panels.weight()[...] = 0
    np.testing.assert_array_equal(panels.weight(), weight)

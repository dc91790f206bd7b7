"""Products with a weight against the plain product, at any shape."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference_model.layers import BLOCK, FEW_ROWS, linear

ROWS = st.one_of(st.integers(0, 9), st.integers(FEW_ROWS - 1, FEW_ROWS + 2))
WIDTHS = st.one_of(st.integers(1, 2 * BLOCK + 1), st.integers(8 * BLOCK - 1, 8 * BLOCK + 1))


@given(seed=st.integers(0, 999), rows=ROWS, depth=st.integers(1, 70), width=WIDTHS)
def test_product_is_the_plain_one_but_for_the_order_of_sums(seed: int, rows: int, depth: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = (rng.standard_normal((n, depth)).astype(np.float32) for n in (rows, width))
    product = linear(x, weight)
    exact = x.astype(np.float64) @ weight.T
    bound = depth * np.finfo(np.float32).eps * (np.abs(x).astype(np.float64) @ np.abs(weight.T))
    assert product.shape == (rows, width) and product.dtype == np.float32 and product.flags.c_contiguous
    assert (np.abs(product - exact) <= bound).all()

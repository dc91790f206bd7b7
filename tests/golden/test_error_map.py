"""A map of errors: every error is in it once, and every cell has the largest of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import GoldenError
from golden.error_map import MAX_COLUMNS, MAX_ROWS, error_map


@given(st.sampled_from([(2, 3, 4, 5), (1, 1, 1, 1), (6, 20), (7,), (2, 600, 1, 3), (1, 2, 50, 41)]), st.integers(0, 99))
def test_rows_are_channels_and_columns_are_pixels(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, reference = rng.integers(-128, 128, (2, *shape)).astype(np.int8)
    found = error_map(target, reference)
    errors = target.astype(int) - reference
    pixels = errors.reshape(found.num_channels, found.num_pixels)
    assert sorted(found.errors) == sorted(errors.ravel())
    rows, columns = -(-found.num_channels // MAX_ROWS), -(-found.num_pixels // MAX_COLUMNS)
    want = [
        [np.abs(pixels[y : y + rows, x : x + columns]).max() for x in range(0, found.num_pixels, columns)]
        for y in range(0, found.num_channels, rows)
    ]
    assert found.largest.tolist() == np.array(want, float).tolist()
    assert found.largest.shape[0] <= MAX_ROWS and found.largest.shape[1] <= MAX_COLUMNS


def test_what_cannot_be_subtracted_is_infinite_in_the_map_and_not_among_the_errors() -> None:
    target = np.array([[[[1, np.nan], [np.inf, 4]]]], np.float32)
    found = error_map(target, np.full((1, 1, 2, 2), np.float32(np.inf)))
    assert found.errors.size == 0 and np.isinf(found.largest).all()
    found = error_map(target, np.zeros((1, 1, 2, 2), np.float32))
    assert found.errors.tolist() == [1, 4] and found.largest.tolist() == [[1, np.inf, np.inf, 4]]


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((0, 3), (0, 3))])
def test_arrays_without_common_elements_have_no_map(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(GoldenError, match="have no map of errors"):
        error_map(*map(np.zeros, shapes))

"""Products with weights in tiles against the same product of one matrix of bf16 numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from npusim.numerics.accumulate import dot_patterns
from npusim.numerics.backend import DECLINED
from npusim.numerics.convert import bf16_from_int8
from npusim.numerics.streamed import dot_streamed
from npusim.numerics.toward_zero import is_native
from tests.numerics.test_compiled import KERNELS, patterns

WAYS = {"numpy": dot_streamed.__wrapped__}  # type: ignore[attr-defined]
if KERNELS:
    WAYS["numba"] = KERNELS["dot_streamed"]


def tiles_of(rng: np.random.Generator, dtype: type, count: int, shape: tuple[int, int, int]) -> NDArray:
    """`count` tiles (k, C, W) as they lie in GMEM, where a channel's rows follow each other."""
    depth, channels, width = shape
    rows = patterns(rng, 3, count, channels, depth, width) if dtype is np.uint16 else None
    if rows is None:
        limits = np.iinfo(dtype)
        rows = rng.integers(limits.min, limits.max, (count, channels, depth, width), endpoint=True).astype(dtype)
    return rows.transpose(0, 2, 1, 3)


def as_patterns(tile: NDArray) -> NDArray[np.uint16]:
    return tile if tile.itemsize == 2 else bf16_from_int8(tile.dtype == np.int8).take(tile.view(np.uint8))


@pytest.mark.parametrize("way", WAYS)
@given(
    seed=st.integers(0, 1 << 32), rows=st.integers(1, 8), width=st.sampled_from([1, 8, 16, 24]),
    dtype=st.sampled_from([np.int8, np.uint8, np.uint16]), begun=st.booleans(),
)  # fmt: skip
def test_tiles_give_the_sums_of_their_matrix(
    way: str, seed: int, rows: int, width: int, dtype: type, begun: bool
) -> None:
    rng = np.random.default_rng(seed)
    tiles = [tiles_of(rng, dtype, count, (depth, 3, width)) for count, depth in ((3, 5), (1, 2))]
    left = patterns(rng, int(rng.choice([3, 100])), rows, 17)
    start = rng.standard_normal((rows, 3, width)).astype(np.float32) if begun else None
    found = WAYS[way](left, tiles, start)
    if found is DECLINED or found is None:
        return
    matrix = np.concatenate([as_patterns(tile).reshape(-1, 3 * width) for tile in tiles])
    wanted = dot_patterns.__wrapped__(left, matrix, None if start is None else start.reshape(rows, -1))  # type: ignore[attr-defined]
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.skipif(not is_native(), reason="NumPy does not follow the rounding mode")
@pytest.mark.parametrize("way", WAYS)
def test_rows_of_ordinary_numbers_and_integers_are_not_declined(way: str) -> None:
    rng = np.random.default_rng(0)
    left = patterns(rng, 3, 1, 2048)
    assert WAYS[way](left, [tiles_of(rng, np.int8, 8, (256, 8, 64))]) is not None


@pytest.mark.parametrize("way", WAYS)
def test_what_may_overflow_or_vanish_is_left_to_the_loop(way: str) -> None:
    rng = np.random.default_rng(0)
    for pattern in (0x0080, 0x7F7F, 0x7F80):
        left = np.full((1, 8), pattern, np.uint16)
        found = WAYS[way](left, [tiles_of(rng, np.uint16, 2, (4, 2, 8))])
        assert found is None or found is DECLINED

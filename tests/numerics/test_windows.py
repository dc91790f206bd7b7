"""Sums under a sliding window against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npusim.numerics.windows import sum_windows, sum_windows_in_order, taps

PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


def added(extended: np.ndarray, weights: np.ndarray, stride: tuple, dilation: tuple, out_hw: tuple) -> np.ndarray:
    """What each kernel element meets, times its weight, in int64."""
    places = taps(extended, weights.shape[1:], stride, dilation, out_hw).astype(np.int64)
    factors = np.broadcast_to(weights, (extended.shape[1], *weights.shape[1:])).transpose(1, 2, 0)
    return (places * factors[:, :, None, :, None, None]).sum(axis=(0, 1))


@given(st.integers(0, 1 << 32), st.integers(1, 9), PAIR, PAIR, PAIR, st.booleans())
def test_windows_meet_what_taps_show(
    seed: int, channels: int, kernel: tuple, stride: tuple, dilation: tuple, leaves: bool
) -> None:
    """Also where a window leaves a row on the right and goes on in the next one."""
    rng = np.random.default_rng(seed)
    out_hw = int(rng.integers(1, 6)), int(rng.integers(1, 9))
    h, w = ((out_hw[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 + int(rng.integers(0, 3)) for i in (0, 1))
    if leaves and w > 1:
        h, w = h + 1 + h // (w - 1), w - 1
    extended = rng.integers(-128, 128, (int(rng.integers(1, 3)), channels, h, w)).astype(np.int8)
    weights = rng.integers(-128, 128, (int(rng.choice([1, channels])), *kernel)).astype(np.int8)
    want = added(extended, weights, stride, dilation, out_hw)
    assert np.array_equal(sum_windows(extended, weights, stride, dilation, out_hw), want)
    floats = extended.astype(np.float32), weights.astype(np.float32)
    for normal in (False, True):
        found = sum_windows_in_order(*floats, stride, dilation, out_hw, normal=normal)
        assert np.array_equal(found, want)


def test_a_sum_that_float32_does_not_hold_is_exact() -> None:
    """Of 529 products of the largest numbers, and one more that is odd."""
    extended, weights = np.full((1, 1, 23, 23), -128, np.int8), np.full((1, 23, 23), -128, np.int8)
    extended[0, 0, 22, 22] = weights[0, 22, 22] = 1
    assert sum_windows(extended, weights, (1, 1), (1, 1), (1, 1)) == 528 * 128 * 128 + 1

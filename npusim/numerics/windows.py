"""Sums over a sliding window, channel by channel."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from npusim.numerics.accumulate import STACKED, checked_product, sum_in_order, sum_stacked
from npusim.numerics.backend import kernel

F32 = NDArray[np.float32]
Pair = tuple[int, int]


def taps(extended: NDArray, kernel: Pair, stride: Pair, dilation: Pair, out_hw: Pair) -> NDArray:
    """A read-only view (kh, kw, n, c, oh, ow) of `extended` (n, c, h, w): what each kernel element meets.

    A window that passes the right end of a row continues in the next one."""
    if (out_hw[1] - 1) * stride[1] + (kernel[1] - 1) * dilation[1] >= extended.shape[3]:
        extended = np.ascontiguousarray(extended)  # what follows a row has to be the next one
    n_str, c_str, h_str, w_str = extended.strides
    steps = (dilation[0] * h_str, dilation[1] * w_str, n_str, c_str, stride[0] * h_str, stride[1] * w_str)
    return as_strided(extended, (*kernel, *extended.shape[:2], *out_hw), steps, writeable=False)


@kernel
def sum_windows(extended: NDArray, weights: NDArray[np.int32], stride: Pair, dilation: Pair, out_hw: Pair) -> NDArray:
    """Int32 sums (n, c, oh, ow) of integers `extended` (n, c, h, w) times `weights`, (c, kh, kw) or (1, kh, kw)."""
    places = taps(extended, weights.shape[1:], stride, dilation, out_hw)
    sums = np.zeros(places.shape[2:], np.int32)
    for i, j in np.ndindex(*weights.shape[1:]):
        sums += places[i, j] * weights[None, :, i, j, None, None]
    return sums


@kernel
def sum_windows_in_order(
    extended: F32, weights: F32, stride: Pair, dilation: Pair, out_hw: Pair, *, normal: bool
) -> F32:
    """The same of float32, kh outside kw, rounded toward zero at every step; `normal` and poison are those of
    dot_in_order."""
    multiply = np.multiply if normal else checked_product
    places = taps(extended, weights.shape[1:], stride, dilation, out_hw)
    factors = weights.transpose(1, 2, 0)[:, :, None, :, None, None]
    if places.size <= STACKED:
        return sum_stacked(multiply(places, factors).reshape(-1, *places.shape[2:]), normal)
    terms = (multiply(places[at], factors[at]) for at in np.ndindex(*weights.shape[1:]))
    return sum_in_order(terms, np.zeros(places.shape[2:], np.float32), normal)

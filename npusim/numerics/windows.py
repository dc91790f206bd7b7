"""Sums over a sliding window, channel by channel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from npusim.numerics.accumulate import STACKED, checked_product, sum_in_order, sum_stacked
from npusim.numerics.backend import kernel
from npusim.numerics.toward_zero import is_native, rounding_toward_zero

F32 = NDArray[np.float32]
Pair = tuple[int, int]
_BLOCK = 1 << 14
"""Elements of all channels that are summed side by side, so that they stay in a processor's cache."""
_FEW_TAPS = 32
"""If there are few results, more taps than these are added in one call."""
_GROUP = 4
"""Channels of one matrix product in add_taps_exactly."""
_MOST_ROOM = 1 << 17
"""Elements of the right operands that are computed at once."""
MOST_TAPS = (1 << 24) // (255 * 128)
"""The largest number of products of 8-bit integers whose sum float32 represents exactly."""


def taps(extended: NDArray, kernel: Pair, stride: Pair, dilation: Pair, out_hw: Pair) -> NDArray:
    """A read-only view (kh, kw, n, c, oh, ow) of `extended` (n, c, h, w): what each kernel element meets.

    A window that passes the right end of a row continues in the next one."""
    if (out_hw[1] - 1) * stride[1] + (kernel[1] - 1) * dilation[1] >= extended.shape[3]:
        extended = np.ascontiguousarray(extended)  # what follows a row has to be the next one
    n_str, c_str, h_str, w_str = extended.strides
    steps = (dilation[0] * h_str, dilation[1] * w_str, n_str, c_str, stride[0] * h_str, stride[1] * w_str)
    return as_strided(extended, (*kernel, *extended.shape[:2], *out_hw), steps, writeable=False)


def sum_windows(extended: NDArray, weights: NDArray[np.int8], stride: Pair, dilation: Pair, out_hw: Pair) -> NDArray:
    """Exact sums (n, c, oh, ow) of 8-bit integers `extended` (n, c, h, w) times `weights`, (c, kh, kw) or (1, kh, kw),
    in float32 where that holds them, else in int32."""
    dtype = np.float32 if weights[0].size <= MOST_TAPS else np.int32
    add = add_taps_exactly if dtype == np.float32 else add_taps
    return _add_windows(add, extended.astype(dtype), weights.astype(dtype), (stride, dilation, out_hw))


def sum_windows_in_order(
    extended: F32, weights: F32, stride: Pair, dilation: Pair, out_hw: Pair, *, normal: bool
) -> F32:
    """The same of float32, kh outside kw, rounded toward zero at every step; `normal` and poison are those of
    dot_in_order."""
    places = taps(extended, weights.shape[1:], stride, dilation, out_hw)
    is_stacked = places.size <= STACKED and (weights[0].size > _FEW_TAPS or not normal)
    if normal and is_native() and not is_stacked:
        with rounding_toward_zero():
            return _add_windows(add_taps, extended, weights, (stride, dilation, out_hw))
    multiply = np.multiply if normal else checked_product
    factors = weights.transpose(1, 2, 0)[:, :, None, :, None, None]
    if is_stacked:
        return sum_stacked(multiply(places, factors).reshape(-1, *places.shape[2:]), normal)
    terms = (multiply(places[at], factors[at]) for at in np.ndindex(*weights.shape[1:]))
    return sum_in_order(terms, np.zeros(places.shape[2:], np.float32), normal)


@kernel
def add_taps(planes: NDArray, weights: NDArray, firsts: tuple[int, ...], length: int) -> NDArray:
    """Sums (n, c, length) of `planes` (n, c, any) from each of `firsts` on, times `weights` (c, taps), one after
    another."""
    n, c, _ = planes.shape
    sums = np.zeros((n, c, length), planes.dtype)
    count = max(1, _BLOCK // length)
    product = np.empty((min(c, count), length), planes.dtype)
    for image, first in ((i, f) for i in range(n) for f in range(0, c, count)):
        some, total = planes[image, first : first + count], sums[image, first : first + count]
        term = product[: len(total)]
        for tap, start in enumerate(firsts):
            np.multiply(some[:, start : start + length], weights[first : first + count, tap, None], out=term)
            total += term
    return sums


@kernel
def add_taps_exactly(planes: F32, weights: F32, firsts: tuple[int, ...], length: int) -> F32:
    """The same of integers whose sums float32 holds: matrix products of a few channels each, with zeros in between."""
    n, c, _ = planes.shape
    count, groups = len(firsts), -(-c // _GROUP)
    if c % _GROUP:
        planes, weights = (_with_channels(array, groups * _GROUP) for array in (planes, weights[None]))
        weights = weights[0]
    left = np.zeros((groups, _GROUP, count, _GROUP), np.float32)
    for i in range(_GROUP):
        left[:, i, :, i] = weights[i::_GROUP]
    left = left.reshape(groups, _GROUP, -1)
    sums = np.empty((n, groups, _GROUP, length), np.float32)
    most = max(1, min(groups, _MOST_ROOM // (count * _GROUP * length)))
    room = np.empty((most, count, _GROUP, length), np.float32)
    for image, first in ((i, f) for i in range(n) for f in range(0, groups, most)):
        some = planes[image].reshape(groups, _GROUP, -1)[first : first + most]
        met = room[: len(some)]
        for tap, start in enumerate(firsts):
            met[:, tap] = some[:, :, start : start + length]
        np.matmul(left[first : first + most], met.reshape(len(some), -1, length), out=sums[image, first : first + most])
    return sums.reshape(n, -1, length)[:, :c]


def _with_channels(array: NDArray, count: int) -> NDArray:
    """`array` (n, c, any) with channels of zeros added."""
    n, c, size = array.shape
    return np.concatenate([array, np.zeros((n, count - c, size), array.dtype)], axis=1)


def _add_windows(
    add: Callable[[NDArray, NDArray, tuple[int, ...], int], NDArray],
    extended: NDArray,
    weights: NDArray,
    geometry: tuple[Pair, Pair, Pair],
) -> NDArray:
    """Sums of windows by sums of taps; `geometry` is (stride, dilation, out_hw).

    A channel's numbers lie in a row, in which what one tap meets has a distance of 1; what lies between belongs to no
    result. Behind a stride, they first fall apart into planes of one remainder in y and x each."""
    (stride, dilation, out_hw), (kh, kw) = geometry, weights.shape[1:]
    n, c = extended.shape[:2]
    weights = np.broadcast_to(weights, (c, kh, kw)).reshape(c, -1)
    split, leaves = stride, False
    if (out_hw[1] - 1) * stride[1] + (kw - 1) * dilation[1] >= extended.shape[3]:
        split, leaves = (1, 1), True  # what leaves a row goes on in the next one, which has to follow it
    planes = _planes(extended, split)
    (down, right), (h, w) = split, planes.shape[4:]
    firsts = []
    for i, j in np.ndindex(kh, kw):
        (y, row), (x, column) = divmod(i * dilation[0], down), divmod(j * dilation[1], right)
        firsts.append(((row * right + column) * h + y) * w + x)
    below, beside = stride[0] // down * w, stride[1] // right
    length = (out_hw[0] - 1) * below + (out_hw[1] - 1) * beside + 1
    sums = add(planes.reshape(n, c, -1), weights, tuple(firsts), length)
    steps = (*sums.strides[:2], below * sums.itemsize, beside * sums.itemsize)
    windows = as_strided(sums, (n, c, *out_hw), steps)
    return windows.copy() if leaves else windows  # whose rows then may overlap


def _planes(extended: NDArray, stride: Pair) -> NDArray:
    """Shape (n, c, remainder in y, in x, h, w)."""
    n, c, h, w = extended.shape
    if stride == (1, 1):
        return np.ascontiguousarray(extended).reshape(n, c, 1, 1, h, w)
    planes = np.zeros((n, c, *stride, -(-h // stride[0]), -(-w // stride[1])), extended.dtype)
    for y, x in np.ndindex(*stride):
        part = extended[:, :, y :: stride[0], x :: stride[1]]
        planes[:, :, y, x, : part.shape[2], : part.shape[3]] = part
    return planes

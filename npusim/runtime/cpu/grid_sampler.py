"""`grid_sampler`, all in float32 and in the source's order.

Source: sophgo/cviruntime src/common/cpu_function/grid_sampler.cpp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall
from npusim.runtime.quantize import round_half_away

BILINEAR, NEAREST = 0, 1
ZEROS, BORDER, REFLECTION = 0, 1, 2
_F = np.float32
Floats = NDArray[np.float32]


def grid_sampler(call: CpuCall) -> Bound:
    """Samples input 0 (n, c, h, w) at the points of input 1 (n, oh, ow, 2), x and y in [-1, 1]."""
    source, grid, out = call.input(0, DType.FP32), call.input(1, DType.FP32), call.output(0, DType.FP32)
    mode, padding, align = call.arg("mode", int), call.arg("padding_mode", int), call.flag("align_corners")
    n, c, h, w = source.shape
    call.require(mode in (BILINEAR, NEAREST), f"mode is {mode}, but it must be 0 (bilinear) or 1 (nearest)")
    call.require(padding in (ZEROS, BORDER, REFLECTION), f"padding_mode is {padding}, but it must be 0, 1 or 2")
    call.require(
        grid.shape[0] == n and grid.shape[3] == 2,
        f"a grid of shape {grid.shape} does not fit an image of {source.shape}",
    )
    call.require(out.size == n * c * grid.shape[1] * grid.shape[2], f"its output has {out.size} elements")
    result = out.reshape(n, c, *grid.shape[1:3])
    sample = _bilinear if mode == BILINEAR else _nearest

    def run() -> None:
        x, y = _pixel(grid[..., 0], w, padding, align), _pixel(grid[..., 1], h, padding, align)
        result[...] = sample(source, x, y)

    return run


def _pixel(coord: Floats, size: int, padding: int, align: bool) -> Floats:
    """Pixel position of `coord`, kept inside the image where `padding` says so."""
    place = (coord + _F(1)) * _F(0.5) * _F(size - 1) if align else ((coord + _F(1)) * _F(size) - _F(1)) * _F(0.5)
    if padding == REFLECTION:
        place = _reflect(place, 0, 2 * (size - 1)) if align else _reflect(place, -1, 2 * size - 1)
    if padding != ZEROS:
        place = np.minimum(_F(size - 1), np.maximum(place, _F(0)))
    # Far outside is outside; the clip only keeps the conversion to int defined.
    return np.clip(place, _F(-2.0e9), _F(2.0e9))


def _reflect(place: Floats, twice_low: int, twice_high: int) -> Floats:
    if twice_low == twice_high:
        return np.zeros_like(place)
    low, span = _F(twice_low) / _F(2), _F(twice_high - twice_low) / _F(2)
    place = np.abs(place - low)
    extra = np.fmod(place, span)
    return np.where(np.floor(place / span) % 2 == 0, extra + low, span - extra + low)


def _bilinear(source: Floats, x: Floats, y: Floats) -> Floats:
    left, top = np.floor(x), np.floor(y)
    dx, dy = x - left, y - top
    tx, ty = _F(1) - dx, _F(1) - dy
    column, row = left.astype(np.int64), top.astype(np.int64)
    total = np.zeros((*source.shape[:2], *x.shape[1:]), np.float32)
    for down, right, weight in ((0, 0, tx * ty), (0, 1, dx * ty), (1, 0, tx * dy), (1, 1, dx * dy)):
        value, inside = _fetch(source, column + right, row + down)
        total = np.where(inside[:, None], total + value * weight[:, None], total)
    return total


def _nearest(source: Floats, x: Floats, y: Floats) -> Floats:
    value, inside = _fetch(source, round_half_away(x).astype(np.int64), round_half_away(y).astype(np.int64))
    return np.where(inside[:, None], value, _F(0))


def _fetch(source: Floats, column: NDArray[np.int64], row: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    """(values of every channel at the points, which of the points lie in the image)."""
    n, _, h, w = source.shape
    inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
    batch = np.arange(n)[:, None, None]
    picked = source[batch, :, np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)]
    return np.moveaxis(picked, -1, 1), inside

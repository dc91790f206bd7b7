"""Products of a few rows with weights that come tile after tile, computed from where the tiles lie.

A program brings a large matrix into LMEM in tiles, each of which one product reads. What the products leave is a sum
over all rows of all tiles, in order; it needs no tile in LMEM, and of integers no pass over the weights that looks for
numbers that are too large or too small."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce

import numpy as np
from numpy.typing import NDArray

from npusim.numerics import bf16
from npusim.numerics.accumulate import F32, Span, few_rows, stays_normal, sums_in_order
from npusim.numerics.backend import kernel
from npusim.numerics.toward_zero import is_native, rounding_toward_zero

ROOM = 1 << 17
"""Weights that are float32 numbers at a time: half of what a core's second cache holds."""
INTEGERS = Span(127, 134, 0)
"""Of integers of 8 bits: 1 to 255, multiples of 1."""
_PIECES = (1, 2, 4, 8)
"""Into how many pieces the rows of weights are cut where BLAS does not sum them in order at once."""


@kernel
def dot_streamed(left: NDArray[np.uint16], tiles: Sequence[NDArray], start: F32 | None = None) -> F32 | None:
    """What dot_patterns gives for `left` (M, K) and a matrix of K rows in tiles, float32 (M, C, W); or None where it is
    not certain that every step is a normal number, or this BLAS sums in another order.

    tiles   one behind another, each (T, k, C, W): T times k rows. int8 and uint8 are numbers, uint16 bf16 patterns
    start   (M, C, W), what the sum goes on from"""
    if not is_native() or not streams_normally(left, tiles, start):
        return None
    (rows, count), (channels, width) = left.shape, tiles[0].shape[2:]
    factors = few_rows(bf16.to_float(left), True)
    height, padded = len(factors), -(-width // 16) * 16  # BLAS sums other widths in another order
    at_once = max(1, min(channels, ROOM // (count * padded)))
    total = np.empty((rows, channels, width), np.float32)
    room = np.empty((at_once, height + count, padded), np.float32)
    room[..., width:] = 0
    with rounding_toward_zero():
        cuts = _cuts(height, count, padded, start is not None)
        if cuts is None:
            return None
        for c in range(0, channels, at_once):
            part = room[: min(at_once, channels - c)]
            _widen(tiles, c, part[:, height:, :width])
            if start is not None:
                part[:, :height] = 0
                part[:, :rows, :width] = start[:, c : c + at_once].swapaxes(0, 1)
            total[:, c : c + at_once] = _chained(factors, part, cuts)[:, :rows, :width].swapaxes(0, 1)
    return total


def _chained(factors: F32, part: F32, cuts: Sequence[tuple[int, int, int]]) -> F32:
    """factors @ part of every channel, piece by piece: (channels, height, width).

    A piece that goes on from a sum finds it in the rows in front of its own, which are no longer needed."""
    height = len(factors)
    sums: F32 | None = None
    for lead, begin, end in cuts:
        ours = factors[:, height + begin : height + end]
        if lead:
            ours = np.concatenate([factors[:, :height], ours], axis=1)
        if sums is not None:
            part[:, begin : begin + height] = sums
        sums = np.matmul(ours, part[:, height + begin - lead : height + end])
    assert sums is not None
    return sums


@cache
def _cuts(height: int, count: int, width: int, begun: bool) -> tuple[tuple[int, int, int], ...] | None:
    """(rows of the sum so far in front, first row, end) of each piece that BLAS sums in order; call it inside
    rounding_toward_zero()."""
    for pieces in _PIECES:
        step = -(-count // pieces)
        cuts = tuple((height if begun or k else 0, k, min(k + step, count)) for k in range(0, count, step))
        if all(sums_in_order(height, lead + end - begin, width) for lead, begin, end in cuts):
            return cuts
    return None


def streams_normally(left: NDArray[np.uint16], tiles: Sequence[NDArray], start: F32 | None) -> bool:
    """Whether every step of dot_streamed is certain to be a normal number, and no weight a denormal."""
    right = reduce(Span.with_those_of, (INTEGERS if tile.itemsize == 1 else Span.of_bf16(tile) for tile in tiles))
    if right.has_denormals:
        return False
    begun = None if start is None else Span.of_float32(start)
    return stays_normal(Span.of_bf16(left), right, left.shape[1], begun)


def _widen(tiles: Sequence[NDArray], first: int, room: F32) -> None:
    """Channels from `first` on of all tiles as float32, into `room` (channels, rows, W)."""
    row = 0
    for tile in tiles:
        here = tile[:, :, first : first + len(room)].transpose(2, 0, 1, 3)
        rows = here.shape[1] * here.shape[2]
        there = room[:, row : row + rows].reshape(here.shape)
        if tile.itemsize == 1:
            there[...] = here
        else:
            bits = there.view(np.uint32)
            bits[...] = here
            bits <<= np.uint32(16)
        row += rows

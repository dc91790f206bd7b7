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
from npusim.numerics.accumulate import F32, MATRIX_COLUMNS, Span, few_rows, stays_normal, sums_in_order
from npusim.numerics.backend import kernel
from npusim.numerics.toward_zero import is_native, rounding_toward_zero

_ENOUGH = 64
"""Columns. BLAS is slow for fewer."""
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
    factors, at_once = few_rows(bf16.to_float(left), True), _side_by_side(channels, width)
    height, columns = len(factors), at_once * width
    total = np.empty((rows, channels, width), np.float32)
    room = np.zeros((height + count, -(-columns // MATRIX_COLUMNS) * MATRIX_COLUMNS), np.float32)
    used = room[:, :columns].reshape(-1, at_once, width)
    with rounding_toward_zero():
        cuts = _cuts(height, count, room.shape[1], start is not None)
        if cuts is None:
            return None
        for c in range(0, channels, at_once):
            _widen(tiles, c, used[height:])
            if start is not None:
                used[:height] = 0
                used[:rows] = start[:, c : c + at_once]
            sums = _chained(factors, room, cuts)[:rows, :columns]
            total[:, c : c + at_once] = sums.reshape(rows, at_once, width)
    return total


@cache
def _side_by_side(channels: int, width: int) -> int:
    """How many channels one BLAS call takes: the fewest that give it enough columns, else all."""
    fits = (g for g in range(1, channels + 1) if channels % g == 0 and g * width % MATRIX_COLUMNS == 0)
    return next((g for g in fits if g * width >= _ENOUGH), channels)


def _chained(factors: F32, room: F32, cuts: Sequence[tuple[int, int, int]]) -> F32:
    """factors @ room, piece by piece.

    A piece that goes on from a sum finds it in the rows in front of its own, which are no longer needed."""
    height = len(factors)
    sums: F32 | None = None
    for lead, begin, end in cuts:
        ours = factors[:, height + begin : height + end]
        if lead:
            ours = np.concatenate([factors[:, :height], ours], axis=1)
        if sums is not None:
            room[begin : begin + height] = sums
        sums = ours @ room[height + begin - lead : height + end]
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
    """Channels from `first` on of all tiles as float32, into `room` (rows, channels, W)."""
    row = 0
    for tile in tiles:
        here = tile[:, :, first : first + room.shape[1]]
        rows = here.shape[0] * here.shape[1]
        if (
            room.shape[1] > 1 and here.shape[3] * here.itemsize % 8 == 0
        ):  # eight bytes at a time, as short rows are slow
            here = np.ascontiguousarray(here.view(np.int64)).view(tile.dtype)
        there = room[row : row + rows].reshape(here.shape)
        if tile.itemsize == 1:
            there[...] = here
        else:
            bits = there.view(np.uint32)
            bits[...] = here
            bits <<= np.uint32(16)
        row += rows

"""Turns scores into a table of fixed shape, which is the form of every policy's choice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kv.arrays import BoolArray, FloatArray, IntArray

PAD = -1
"""A table entry without a unit."""


@dataclass(frozen=True)
class UnitTable:
    """The units that each row attends to. The shape depends only on the budget, so a chip with static operators can use
    it.

    units   int64 [rows, width]: logical blocks or positions, ascending, then PAD; rows is 1, kv_heads or q_heads
    count   int64 [rows]: number of units in each row
    """

    units: IntArray
    count: IntArray

    @property
    def valid(self) -> BoolArray:
        return self.units != PAD


def best(scores: FloatArray, count: int) -> BoolArray:
    """The `count` highest scores of each row, as bool of the shape of `scores`, float32 [rows, units]. Of equal scores
    the lowest index is taken; -inf is never taken."""
    taken = scores > -np.inf
    num_units = scores.shape[1]
    if count <= 0:
        return np.zeros_like(taken)
    if num_units <= count:
        return taken
    # Negated, because NumPy is 15 times slower if many elements are equal and the smallest, and -inf is common here.
    threshold = -np.partition(-scores, count - 1, axis=1)[:, count - 1, None]
    above, ties = scores > threshold, scores == threshold
    room = count - above.sum(1, keepdims=True)
    if (ties.sum(1, keepdims=True) == room).all():
        return taken & (above | ties)
    return taken & (above | ties & (ties.cumsum(1) <= room))


def choose(scores: FloatArray, count: int) -> BoolArray:
    """The last unit, which has the token that is being computed, and the best count - 1 of the others, as bool of the
    shape of `scores` (as in Quest's kernels)."""
    kept = np.ones(scores.shape, np.bool_)
    kept[:, :-1] = best(scores[:, :-1], count - 1)
    return kept


def table_of(kept: BoolArray, width: int) -> UnitTable:
    """A table of `width` entries with the kept units of each row. No row may have more than `width`."""
    count = kept.sum(1)
    rows, units = np.nonzero(kept)
    places = np.arange(len(units)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((len(kept), width), PAD, np.int64)
    table[rows, places] = units
    return UnitTable(table, count)

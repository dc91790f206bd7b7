"""From scores to a fixed-shape table, the only form in which a policy's choice leaves it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kv.arrays import BoolArray, FloatArray, IntArray

PAD = -1
"""An entry of a table that stands for no unit."""


@dataclass(frozen=True)
class UnitTable:
    """The units that each row attends to: what a chip with static operators takes, since its shape depends on the
    budget only.

    units   int [rows, width]: logical blocks or positions, ascending, then PAD; rows is 1, kv_heads or q_heads
    count   int [rows]: how many are real
    """

    units: IntArray
    count: IntArray

    @property
    def valid(self) -> BoolArray:
        return self.units != PAD


def best(scores: FloatArray, count: int) -> BoolArray:
    """The `count` highest of each row of scores [rows, units], as bool of that shape. Ties go to the lowest index; -inf
    is never taken."""
    taken = scores > -np.inf
    num_units = scores.shape[1]
    if count <= 0:
        return np.zeros_like(taken)
    if num_units <= count:
        return taken
    # Of the negated scores, since NumPy partitions rows of many equal smallest elements 15 times slower, and -inf is
    # common here.
    threshold = -np.partition(-scores, count - 1, axis=1)[:, count - 1, None]
    above, ties = scores > threshold, scores == threshold
    room = count - above.sum(1, keepdims=True)
    if (ties.sum(1, keepdims=True) == room).all():
        return taken & (above | ties)
    return taken & (above | ties & (ties.cumsum(1) <= room))


def choose(scores: FloatArray, count: int) -> BoolArray:
    """The last unit, which holds the token being computed, and the best count - 1 of the others (Quest's kernel
    path)."""
    kept = np.ones(scores.shape, np.bool_)
    kept[:, :-1] = best(scores[:, :-1], count - 1)
    return kept


def table_of(kept: BoolArray, width: int) -> UnitTable:
    """The kept units of each row as a table of `width` entries; width is at least the longest row."""
    count = kept.sum(1)
    rows, units = np.nonzero(kept)
    places = np.arange(len(units)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((len(kept), width), PAD, np.int64)
    table[rows, places] = units
    return UnitTable(table, count)

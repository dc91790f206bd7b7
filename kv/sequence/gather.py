"""Reads the keys and values of a policy's table, which is in logical blocks, from the pool."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kv.arrays import BoolArray, FloatArray, IntArray
from kv.memory.geometry import Geometry
from kv.memory.pool import PagePool
from kv.memory.tiered_pool import TieredPool
from kv.pages.allocator import NULL_PAGE
from kv.pages.block_table import BlockTable
from kv.policies.table import UnitTable
from kv.sequence.selection import Selection


class Scratch:
    """Memory for gathered keys and values that is reused, so that it stays in the CPU's cache and costs no page
    faults."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.float32)

    def of(self, size: int) -> FloatArray:
        """Float32 [size] with any content. It is the same memory as that of the call before."""
        if self._memory.size < size:
            self._memory = np.empty(size, np.float32)
        return self._memory[:size]


@dataclass(frozen=True)
class ResolvedTable:
    """One layer's table, resolved with the block table.

    A unit is one piece of memory, or several pages of the cache, each a piece.

    heads       int64 [rows]: the KV head of each row; None if one row serves all heads
    slots       int64 [rows, pieces]: the first slot of each piece in the pool; padding is in the null page
    positions   int64 [rows, pieces * piece_tokens]
    valid       bool [rows, pieces * piece_tokens]: False for padding
    """

    heads: IntArray | None
    slots: IntArray
    positions: IntArray
    valid: BoolArray
    piece_tokens: int

    def row(self, row: int) -> ResolvedTable:
        """The same of a single row."""
        assert self.heads is not None
        one = slice(row, row + 1)
        return replace(
            self, heads=self.heads[one], slots=self.slots[one], positions=self.positions[one], valid=self.valid[one]
        )

    def read(self, pool: PagePool | TieredPool, layer: int, scratch: Scratch) -> Selection:
        """The keys and values for a model. Unless one row serves all heads, they are in scratch memory."""
        g = pool.geometry
        slots = self.slots[0] if self.heads is None else self.slots
        if self.piece_tokens < g.page_size:
            tokens = (slots[..., None] + np.arange(self.piece_tokens)).reshape(*slots.shape[:-1], -1)
            k, v = pool.read_slots(layer, tokens, self.heads)
        else:
            memory = scratch.of(2 * self.slots.size * g.page_size * g.head_dim)
            k, v = (
                pair.reshape(len(pair), -1, g.head_dim)
                for pair in pool.read(layer, slots // g.page_size, self.heads, memory)
            )
        if self.heads is None:
            kept = int(self.valid.sum())  # padding comes last, and the last unit ends with the sequence
            return Selection(k[:, :kept], v[:, :kept], self.positions[0, :kept])
        if self.valid.all():
            return Selection(k, v, self.positions)
        # a slot that was never written may hold NaN, and 0 * NaN is NaN
        k[~self.valid] = v[~self.valid] = 0
        return Selection(k, v, self.positions, self.valid)


def resolve(
    table: UnitTable, unit_tokens: int, block_table: BlockTable, length: int, geometry: Geometry
) -> ResolvedTable:
    """A policy's table, resolved for a sequence of `length` tokens."""
    pages, size, rows = np.asarray(block_table.pages, np.int64), geometry.page_size, len(table.units)
    piece = min(unit_tokens, size)
    first = (table.units[..., None] * unit_tokens + np.arange(0, unit_tokens, piece)).reshape(rows, -1)
    real = np.repeat(table.valid, unit_tokens // piece, axis=1) & (first < length)
    slots = np.where(real, pages[np.minimum(first // size, len(pages) - 1)] * size + first % size, NULL_PAGE)
    positions = (first[..., None] + np.arange(piece)).reshape(rows, -1)
    valid = np.repeat(real, piece, axis=1) & (positions < length)
    heads = None if rows == 1 else np.arange(rows) * geometry.num_kv_heads // rows
    return ResolvedTable(heads, slots, positions, valid, piece)

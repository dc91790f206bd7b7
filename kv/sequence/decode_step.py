"""The last decode step of one layer, for statistics: what was chosen, which pages were read, and the traffic."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from kv.arrays import BoolArray
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies.table import UnitTable
from kv.sequence.gather import ResolvedTable
from kv.sequence.traffic import StepTraffic, dense_traffic, table_traffic


@dataclass
class Activity:
    """Counts of what a sequence did, which show whether a run was dense or sparse."""

    decode_steps: int = 0
    """Decode steps, each layer of each token counted."""
    sparse_steps: int = 0
    """The decode steps that left tokens out."""
    tokens_skipped: int = 0
    """Tokens that were left out: the mean over the rows of a selection, summed over steps."""


@dataclass(frozen=True)
class Chosen:
    """What a policy chose in a step: its table, the table resolved to slots of the pool, and the bytes that were read
    for the scores."""

    table: UnitTable
    gather: ResolvedTable
    score_bytes: int


@dataclass(frozen=True)
class DecodeStep:
    """A decode step of one layer of a sequence of `length` tokens. `chosen` is None if everything was attended to."""

    length: int
    chosen: Chosen | None

    def pages_read(self, geometry: Geometry) -> BoolArray:
        """The logical blocks that each KV head read: bool [kv_heads, blocks]."""
        heads, blocks = geometry.num_kv_heads, geometry.pages(self.length)
        if self.chosen is None:
            return np.ones((heads, blocks), np.bool_)
        gather = self.chosen.gather
        rows, columns = np.nonzero(gather.valid)
        read = np.zeros((heads, blocks), np.bool_)
        of_head = slice(None) if gather.heads is None else gather.heads[rows]
        read[of_head, gather.positions[rows, columns] // geometry.page_size] = True
        return read

    def traffic(self, cache: PagedCache, seq: Hashable) -> StepTraffic:
        """The traffic of the step."""
        if self.chosen is None:
            return dense_traffic(cache, seq, self.length)
        gather = self.chosen.gather
        return table_traffic(
            cache,
            gather.slots,
            piece_tokens=gather.piece_tokens,
            kept_tokens=int(gather.valid.sum()),
            entries=self.chosen.table.units.size,
            metadata_bytes=self.chosen.score_bytes,
        )

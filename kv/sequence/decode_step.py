"""The last decode step of one layer, for statistics: what was chosen, which pages were read, and the traffic."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from kv.arrays import BoolArray
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies.table import PAD, UnitTable
from kv.sequence.gather import Gather
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
    gather: Gather
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
        units, unit_tokens = self.chosen.table.units, self.chosen.gather.unit_tokens
        rows = np.arange(len(units) if len(units) > 1 else heads)
        head_of = np.broadcast_to((rows * heads // len(rows))[:, None], (len(rows), units.shape[1]))
        units = np.broadcast_to(units, head_of.shape)
        real = units != PAD
        read = np.zeros((heads, blocks), np.bool_)
        read[head_of[real], units[real] * unit_tokens // geometry.page_size] = True
        return read

    def traffic(self, cache: PagedCache, seq: Hashable) -> StepTraffic:
        """The traffic of the step."""
        if self.chosen is None:
            return dense_traffic(cache, seq, self.length)
        gather = self.chosen.gather
        return table_traffic(
            cache,
            gather.slots,
            self.chosen.table,
            unit_tokens=gather.unit_tokens,
            kept_tokens=int(gather.valid.sum()),
            metadata_bytes=self.chosen.score_bytes,
        )

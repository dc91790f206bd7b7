"""The last decode step of one layer, for whoever keeps books: what was chosen, which pages were read, what moved."""

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
    """What a sequence did, so that a benchmark cannot take a dense run for a sparse one."""

    decode_steps: int = 0
    """Layers times tokens that were attended one token at a time."""
    sparse_steps: int = 0
    """Of these, those that left something out."""
    tokens_skipped: int = 0
    """Tokens left out, mean over the rows of a selection, summed over steps."""


@dataclass(frozen=True)
class Chosen:
    """What a policy chose in a step: its table, the table resolved to slots of the pool, and the bytes read for its
    scores."""

    table: UnitTable
    gather: Gather
    score_bytes: int


@dataclass(frozen=True)
class DecodeStep:
    """Of one layer of a sequence of `length` tokens. `chosen` is None where everything was attended to."""

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
        """What it moved."""
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

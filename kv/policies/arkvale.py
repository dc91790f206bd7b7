"""ArkVale: pages are described by a centre and the mean distance from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit
from kv.policies.key_blocks import KeyBlocks
from kv.policies.page_vectors import PageVectors
from kv.policies.protected import EndPagesState
from kv.policies.shared import SharedState, Sharing
from kv.policies.vector_table import ENOUGH, Stored


class DigestState(PageVectors):
    """For each full page, the centre of its keys and their mean distance from it."""

    def __init__(self, context: LayerContext, policy: ArkVale) -> None:
        super().__init__(context, policy.stored)
        self._blocks = KeyBlocks(context.geometry, context.geometry.page_size)

    @property
    def num_described(self) -> int:
        return self.length // self.geometry.page_size

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        pages = self._blocks.add(keys)
        if pages.shape[1]:
            centre = (pages.max(2) + pages.min(2)) / 2
            distance = np.abs(pages - centre[:, :, None]).mean(2)
            self.describe(start // self.geometry.page_size, np.stack([centre, distance], 1).swapaxes(2, 3))

    def learn(self, read_keys: ReadKeys) -> None:
        self._table.settle(ENOUGH)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        self._table.settle()
        scores = np.full((len(q), self.num_pages), np.inf, np.float32)
        scores[:, : self.num_described] = self.weigh(q, np.abs(q))
        return scores

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        self._blocks.truncate(self.length, length, read_keys)
        super().truncate(length, read_keys)


@dataclass(frozen=True)
class ArkVale(Policy):
    """Ranks pages by q.centre + |q|.mean distance. That is closer to q.k than Quest's score, but not a bound.

    sinks, window   the first and last pages are always kept, if the budget has room for them
    sharing         which heads share a choice; in the paper, all of a layer
    stored          what centres and distances are kept as
    """

    sinks: int = 1
    window: int = 2
    sharing: Sharing = Sharing.LAYER
    stored: Stored = Stored.AS_KEYS
    name: ClassVar[str] = "arkvale"
    paper: ClassVar[str] = "NeurIPS 2024"
    unit: ClassVar[Unit] = Unit.PAGE

    def start(self, context: LayerContext) -> State:
        shared = SharedState(DigestState(context, self), self.sharing, context.unit_tokens(self.unit))
        return EndPagesState(shared, self.sinks, self.window)

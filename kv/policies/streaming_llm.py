"""StreamingLLM: keeps the first tokens and the last ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, State, Unit
from kv.policies.eviction import EvictingState


class StreamingState(EvictingState):
    def __init__(self, context: LayerContext, sinks: int) -> None:
        super().__init__(context, rows=1)
        self._sinks = sinks

    def ranks(self) -> FloatArray:
        ranks = np.arange(self.length, dtype=np.float32)[None]
        ranks[:, : self._sinks] = np.inf
        return ranks


@dataclass(frozen=True)
class StreamingLLM(Policy):
    """Keeps attention sinks and a sliding window. Tokens between them are lost.

    The original rotates keys by their place in the cache; here keys keep the rotation of their position.

    sinks   number of first tokens that are always kept; the rest of the budget is the window
    """

    sinks: int = 4
    name: ClassVar[str] = "streaming_llm"
    paper: ClassVar[str] = "arXiv 2309.17453"
    unit: ClassVar[Unit] = Unit.TOKEN
    evicts: ClassVar[bool] = True

    def start(self, context: LayerContext) -> State:
        return StreamingState(context, self.sinks)

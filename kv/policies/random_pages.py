"""RandomPages: keeps pages that are drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit


class RandomState(State):
    def __init__(self, context: LayerContext, seed: int) -> None:
        super().__init__(context)
        self._seed = seed

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        rng = np.random.default_rng((self._seed, self.context.layer, self.length))
        return rng.random((self.geometry.num_kv_heads, self.num_pages), np.float32)


@dataclass(frozen=True)
class RandomPages(Policy):
    """The control: what a budget gives without any criterion. The choice depends only on seed, layer and length.

    seed    seed of the random choice
    """

    seed: int = 0
    name: ClassVar[str] = "random"
    unit: ClassVar[Unit] = Unit.PAGE

    def start(self, context: LayerContext) -> State:
        return RandomState(context, self.seed)

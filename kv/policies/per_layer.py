"""A wrapper that leaves the first layers dense."""

from __future__ import annotations

from dataclasses import dataclass

from kv.policies.base import LayerContext, Policy, State
from kv.policies.full import DenseState
from kv.policies.wrapper import Wrapper


@dataclass(frozen=True)
class PerLayer(Wrapper):
    """Attends to everything in the first layers, where attention is not sparse (Quest, section 3.3: sparsity below 10 %
    in the first two).

    dense_layers    number of dense layers
    """

    base: Policy
    dense_layers: int = 2

    def start(self, context: LayerContext) -> State:
        return DenseState(context) if context.layer < self.dense_layers else self.base.start(context)

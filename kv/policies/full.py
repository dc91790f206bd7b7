"""Full: attends to everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kv.policies.base import LayerContext, Policy, State, Unit


class DenseState(State):
    dense = True


@dataclass(frozen=True)
class Full(Policy):
    """The dense run that all others are compared with. The budget is ignored."""

    name: ClassVar[str] = "full"
    unit: ClassVar[Unit] = Unit.PAGE

    def start(self, context: LayerContext) -> State:
        return DenseState(context)

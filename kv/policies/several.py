"""One dense prompt for several policies. Each is told what it would have been told alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kv.arrays import FloatArray
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit


class SeveralState(State):
    dense = True

    def __init__(self, context: LayerContext, members: dict[Policy, State]) -> None:
        super().__init__(context)
        self.members = members

    def member(self, policy: Policy) -> State:
        return self.members[policy] if policy in self.members else super().member(policy)

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        for state in self.members.values():
            state.append(start, keys)

    def prefill(self, q: FloatArray) -> None:
        for state in self.members.values():
            state.prefill(q)

    def observe(self, weights: FloatArray) -> None:
        for state in self.members.values():
            state.observe(weights)

    def learn(self, read_keys: ReadKeys) -> None:
        for state in self.members.values():
            state.learn(read_keys)

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        super().truncate(length, read_keys)
        for state in self.members.values():
            state.truncate(length, read_keys)

    @property
    def metadata_bytes(self) -> int:
        return sum(state.metadata_bytes for state in self.members.values())


@dataclass(frozen=True)
class Several(Policy):
    """Attends to everything, and keeps the states of several policies. PagedKV.under continues with one of them, so
    that a prompt is computed only once.

    policies    the policies, each once
    """

    policies: tuple[Policy, ...]
    name: ClassVar[str] = "several"
    unit: ClassVar[Unit] = Unit.PAGE

    def __post_init__(self) -> None:
        object.__setattr__(self, "wants_weights", any(policy.wants_weights for policy in self.policies))

    def start(self, context: LayerContext) -> State:
        return SeveralState(context, {policy: policy.start(context) for policy in self.policies})

"""Base classes of policies that wrap another policy."""

from __future__ import annotations

from dataclasses import dataclass

from kv.arrays import BoolArray, FloatArray
from kv.policies.base import Policy, ReadKeys, State


class WrappedState(State):
    """Calls the wrapped state for everything. A wrapper overrides what it changes."""

    def __init__(self, base: State) -> None:
        super().__init__(base.context)
        self.base = base
        self.dense = base.dense

    @property
    def pruned(self) -> bool:
        return self.base.pruned

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        self.base.append(start, keys)

    def prefill(self, q: FloatArray) -> None:
        self.base.prefill(q)

    def observe(self, weights: FloatArray) -> None:
        self.base.observe(weights)

    def learn(self, read_keys: ReadKeys) -> None:
        self.base.learn(read_keys)

    def rebudget(self, budget_tokens: int) -> None:
        super().rebudget(budget_tokens)
        self.base.rebudget(budget_tokens)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        return self.base.scores(q, read_keys)

    def width(self, count: int, num_units: int) -> int:
        return self.base.width(count, num_units)

    def chosen(self, kept: BoolArray) -> None:
        self.base.chosen(kept)

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        super().truncate(length, read_keys)
        self.base.truncate(length, read_keys)

    @property
    def score_bytes(self) -> int:
        return self.base.score_bytes

    @property
    def metadata_bytes(self) -> int:
        return self.base.metadata_bytes


@dataclass(frozen=True)
class Wrapper(Policy):
    """A policy that wraps `base`. It has the name, unit and other class attributes of `base`."""

    base: Policy

    def __post_init__(self) -> None:
        for name in ("name", "paper", "unit", "wants_weights", "evicts", "dense_within_budget"):
            object.__setattr__(self, name, getattr(self.base, name))

    @property
    def own_page_size(self) -> int | None:
        return self.base.own_page_size

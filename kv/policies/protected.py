"""A wrapper that always keeps the first and the last tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kv.arrays import FloatArray
from kv.errors import KVError
from kv.policies.base import LayerContext, Policy, ReadKeys, State
from kv.policies.wrapper import WrappedState, Wrapper


def keep_ends(scores: FloatArray, unit_tokens: int, length: int, sinks: int, recent: int) -> None:
    """Sets the scores, float32 [rows, units], of the units that hold one of the first `sinks` or the last `recent` of
    `length` tokens to +inf, in place."""
    scores[:, : -(-sinks // unit_tokens)] = np.inf
    scores[:, max(0, length - recent) // unit_tokens :] = np.inf


def within_budget(sinks: int, recent: int, budget_tokens: int) -> tuple[int, int]:
    """(sinks, recent) of a policy, reduced to at most a quarter and a half of the budget, so that some of it is left
    for choosing."""
    return min(sinks, budget_tokens // 4), min(recent, budget_tokens // 2)


class ProtectedState(WrappedState):
    def __init__(self, base: State, unit_tokens: int, sinks: int, recent: int) -> None:
        super().__init__(base)
        self._unit_tokens = unit_tokens
        self._sinks, self._recent = sinks, recent

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        scores = self.base.scores(q, read_keys).copy()
        keep_ends(scores, self._unit_tokens, self.length, self._sinks, self._recent)
        return scores


class EndPagesState(WrappedState):
    """First and last pages of a policy that always keeps some, as far as the budget of the moment holds them: the last
    ones win."""

    def __init__(self, base: State, sinks: int, recent: int) -> None:
        super().__init__(base)
        self._sinks, self._recent = sinks, recent

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        scores = self.base.scores(q, read_keys).copy()
        budget_pages = self.geometry.pages(self.context.budget_tokens)
        recent = min(self._recent, budget_pages)
        scores[:, : min(self._sinks, budget_pages - recent)] = np.inf
        scores[:, max(0, scores.shape[1] - recent) :] = np.inf
        return scores


@dataclass(frozen=True)
class Protected(Wrapper):
    """Keeps sinks and a recent window, within the budget, with any policy.

    sinks, recent   numbers of tokens, which the budget must have room for; if their pages do not all fit, the sinks'
                    pages are kept
    """

    base: Policy
    sinks: int = 4
    recent: int = 64

    def start(self, context: LayerContext) -> State:
        if self.sinks + self.recent > context.budget_tokens:
            raise KVError(
                f"{self.sinks} sinks and {self.recent} recent tokens exceed the budget of "
                f"{context.budget_tokens} tokens: protect fewer"
            )
        return ProtectedState(self.base.start(context), context.unit_tokens(self.unit), self.sinks, self.recent)

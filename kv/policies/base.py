"""What a policy is: a frozen dataclass of hyper-parameters, and the state that it keeps for one layer of one sequence.

A policy sees logical blocks and positions only, never a physical page, so it cannot reach what another sequence holds
or a freed page. A state is plain data: where it needs the stored keys it is handed a way to read them, so a copy of it
can go on over another sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

import numpy as np

from kv.arrays import BoolArray, FloatArray
from kv.errors import KVError
from kv.memory.geometry import Geometry

ReadKeys = Callable[[], FloatArray]
"""Reads the stored keys of a layer, float32 [kv_heads, length, head_dim]. Who calls it in a step has read them all."""


class Unit(Enum):
    """What a policy chooses."""

    PAGE = "page"
    TOKEN = "token"


@dataclass(frozen=True)
class LayerContext:
    """What a state is made from.

    budget_tokens   tokens that a decode step may attend to, the one being computed included
    element_bytes   of a stored key or value; page maxima and minima are stored keys themselves, so they take no more
    """

    geometry: Geometry
    layer: int
    budget_tokens: int
    element_bytes: int

    def unit_tokens(self, unit: Unit) -> int:
        """Tokens in one page or one token."""
        return self.geometry.page_size if unit is Unit.PAGE else 1


class State:
    """One layer of one sequence under a policy. The defaults are those of a policy that looks at nothing."""

    dense = False
    """Whether this layer attends to everything, whatever the budget."""

    def __init__(self, context: LayerContext) -> None:
        self.context = context
        self.length = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of layer {self.context.layer}: {self.length} tokens>"

    @property
    def geometry(self) -> Geometry:
        return self.context.geometry

    @property
    def pruned(self) -> bool:
        """Whether some token is gone for ever, so that not even a budget above the length brings the dense result
        back."""
        return False

    @property
    def num_pages(self) -> int:
        return self.geometry.pages(self.length)

    def append(self, start: int, keys: FloatArray) -> None:
        """Keys as stored, float32 [T, kv_heads, head_dim], of the positions from `start` on, which is the length so
        far."""
        self.length = start + len(keys)

    def prefill(self, q: FloatArray) -> None:
        """Queries of a dense step, float32 [T, q_heads, head_dim]."""

    def observe(self, weights: FloatArray) -> None:
        """Softmax weights, summed over the query heads of each KV head: float32 [kv_heads, T, length], zero where not
        attended."""

    def learn(self, read_keys: ReadKeys) -> None:
        """Build what decoding needs from the prompt now, rather than when the first token is decoded: a copy then has
        it too."""

    def member(self, policy: Policy) -> State:
        """Of several policies that saw the same prompt, the state of one. KVError where it is none of them."""
        raise KVError(f"{policy.name} did not see the prompt: store it under Several, with {policy.name} among them")

    def rebudget(self, budget_tokens: int) -> None:
        """Go on under another budget: a prompt that was stored once is decoded under several."""
        self.context = replace(self.context, budget_tokens=budget_tokens)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        """What each unit is worth to the query, float32 [q_heads, head_dim].

        -> float32 [rows, units], rows being q_heads, kv_heads or 1; +inf must be kept, -inf must not. The last unit is
        kept in any case."""
        raise NotImplementedError

    def width(self, count: int, num_units: int) -> int:
        """Entries of the table when `count` units fit the budget."""
        return min(count, num_units)

    def chosen(self, kept: BoolArray) -> None:
        """What was kept, bool [rows, units]. A policy that evicts forgets the rest."""

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        """Forget the positions from `length` on; `read_keys` may still read them."""
        self.length = length

    @property
    def score_bytes(self) -> int:
        """Bytes of keys or metadata that one call of scores reads."""
        return 0

    @property
    def metadata_bytes(self) -> int:
        """Bytes that the policy keeps beside the keys and values."""
        return 0


@dataclass(frozen=True)
class Policy:
    """Hyper-parameters. `start` makes the state of one layer; a policy itself never changes."""

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    unit: ClassVar[Unit]
    wants_weights: ClassVar[bool] = False
    evicts: ClassVar[bool] = False
    """Whether what was not kept is lost for later steps."""
    dense_within_budget: ClassVar[bool] = True
    """Whether a budget of at least the length gives the dense result bit for bit."""

    def start(self, context: LayerContext) -> State:
        raise NotImplementedError


def grown(array: np.ndarray, needed: int, axis: int) -> np.ndarray:
    """The array, or a copy of at least twice the length along `axis` if that is below `needed`; new entries are
    zero."""
    if array.shape[axis] >= needed:
        return array
    shape = list(array.shape)
    shape[axis] = max(needed, 2 * array.shape[axis])
    larger = np.zeros(shape, array.dtype)
    larger[tuple(slice(size) for size in array.shape)] = array
    return larger


def softmax(scores: FloatArray) -> FloatArray:
    """Along the last axis."""
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def group_scores(q: FloatArray, keys: FloatArray) -> FloatArray:
    """q.k of each query head with each key of its KV head: float32 [kv_heads, group, L] from [q_heads, dim] and
    [kv_heads, L, dim]."""
    return q.reshape(len(keys), -1, q.shape[-1]) @ keys.swapaxes(1, 2)

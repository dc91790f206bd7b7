"""The base classes of policies: a frozen dataclass of hyper-parameters, and the state of one layer of one sequence.

A policy sees only logical blocks and positions, never a physical page, so it cannot read a freed page or one of another
sequence. A state is plain data: if it needs the stored keys, it is given a function that reads them. So a copy of it
can be used with another sequence."""

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
"""Reads the stored keys of a layer, float32 [kv_heads, length, head_dim]. A policy that calls it in a step has to count
all keys as read."""


class Unit(Enum):
    """What a policy chooses."""

    PAGE = "page"
    TOKEN = "token"


@dataclass(frozen=True)
class LayerContext:
    """What a state is made from.

    budget_tokens   number of tokens that a decode step may attend to, including the token that is being computed
    element_bytes   bytes of a stored element; metadata of a policy is counted with elements of the same size
    """

    geometry: Geometry
    layer: int
    budget_tokens: int
    element_bytes: int

    def paged(self, page_size: int) -> LayerContext:
        """The same with pages of the policy's own size: each is several of the cache's pages, or a part of one. KVError
        where neither size divides the other."""
        own = self.geometry.page_size
        if page_size < 1 or (page_size % own and own % page_size):
            raise KVError(
                f"pages of {page_size} tokens in a cache whose pages have {own}: one must be a multiple of the other"
            )
        return replace(self, geometry=replace(self.geometry, page_size=page_size))

    def unit_tokens(self, unit: Unit) -> int:
        """Number of tokens in one unit."""
        return self.geometry.page_size if unit is Unit.PAGE else 1


class State:
    """The state of a policy for one layer of one sequence. By default it ignores everything that it is told."""

    dense = False
    """Whether this layer attends to everything, with any budget."""

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
        """Whether a token was evicted, so that even with a budget above the length the result is not the dense one."""
        return False

    @property
    def num_pages(self) -> int:
        return self.geometry.pages(self.length)

    def append(self, start: int, keys: FloatArray) -> None:
        """Adds keys as they are stored, float32 [T, kv_heads, head_dim], at the positions from `start` on; `start` is
        the length so far."""
        self.length = start + len(keys)

    def prefill(self, q: FloatArray) -> None:
        """Tells the queries of a dense step, float32 [T, q_heads, head_dim]."""

    def observe(self, weights: FloatArray) -> None:
        """Tells the softmax weights, summed over the query heads of each KV head: float32 [kv_heads, T, length], 0 for
        positions that were not attended to."""

    def learn(self, read_keys: ReadKeys) -> None:
        """Builds from the prompt what decoding needs. Otherwise that happens at the first decoded token; after this
        call copies of the state have it too."""

    def member(self, policy: Policy) -> State:
        """The state of `policy`, if this is the state of several policies that saw the same prompt. Raises KVError if
        `policy` is not one of them."""
        raise KVError(f"{policy.name} did not see the prompt: store it under Several, with {policy.name} among them")

    def rebudget(self, budget_tokens: int) -> None:
        """Changes the budget: a prompt that was stored once can be decoded with several budgets."""
        self.context = replace(self.context, budget_tokens=budget_tokens)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        """The score of each unit for the queries `q`, float32 [q_heads, head_dim].

        -> float32 [rows, units], where rows is q_heads, kv_heads or 1. A unit with +inf must be kept, one with -inf
        must not be. The last unit is always kept."""
        raise NotImplementedError

    def width(self, count: int, num_units: int) -> int:
        """Number of entries of the table if `count` units fit the budget."""
        return min(count, num_units)

    def chosen(self, kept: BoolArray) -> None:
        """Tells which units were kept, bool [rows, units]. A policy that evicts marks the others as lost."""

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        """Removes the positions from `length` on. `read_keys` can still read them."""
        self.length = length

    @property
    def score_bytes(self) -> int:
        """Bytes of keys or metadata that one call of scores reads."""
        return 0

    @property
    def metadata_bytes(self) -> int:
        """Bytes that the policy keeps in addition to the keys and values."""
        return 0


@dataclass(frozen=True)
class Policy:
    """The hyper-parameters of a policy, which never change. `start` makes the state of one layer."""

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    unit: ClassVar[Unit]
    wants_weights: ClassVar[bool] = False
    evicts: ClassVar[bool] = False
    """Whether later steps cannot use what was not kept."""
    dense_within_budget: ClassVar[bool] = True
    """Whether the result is bit for bit the dense one if the budget is at least the length."""

    def start(self, context: LayerContext) -> State:
        """A new state. Raises KVError if the policy cannot work in this context."""
        raise NotImplementedError

    @property
    def own_page_size(self) -> int | None:
        """Tokens of a page if the policy sets them; None: its pages are the cache's."""
        return None


def grown(array: np.ndarray, needed: int, axis: int) -> np.ndarray:
    """The array, or if it has fewer than `needed` entries along `axis`, a copy with at least twice as many. New entries
    are zero."""
    if array.shape[axis] >= needed:
        return array
    shape = list(array.shape)
    shape[axis] = max(needed, 2 * array.shape[axis])
    larger = np.zeros(shape, array.dtype)
    larger[tuple(slice(size) for size in array.shape)] = array
    return larger


def softmax(scores: FloatArray) -> FloatArray:
    """Softmax along the last axis."""
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def group_scores(q: FloatArray, keys: FloatArray) -> FloatArray:
    """q.k of each query head and each key of its KV head: float32 [kv_heads, group, L]. `q`: float32 [q_heads, dim],
    `keys`: float32 [kv_heads, L, dim]."""
    return q.reshape(len(keys), -1, q.shape[-1]) @ keys.swapaxes(1, 2)

"""What the model asks of a KV cache, and the plain cache that keeps everything.

The model knows nothing of pages, budgets or policies. In each layer it appends the new keys and values, asks which
ones to attend to, and hands back the softmax weights if the store wants them. Anything with these members is a
cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reference_model.errors import ModelError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Selected(Protocol):
    """The keys and values that one layer attends to in one step. Anything with these members will do."""

    @property
    def k(self) -> FloatArray:
        """float32 [kv_heads, S, head_dim]. It is a view of the store when dense, so read it before the next append."""

    @property
    def v(self) -> FloatArray:
        """As k."""

    @property
    def positions(self) -> IntArray:
        """int, ascending: [S] when all KV heads share a selection, else [kv_heads, S].

        By these the model masks what is later than a query or out of its sliding window."""

    @property
    def valid(self) -> BoolArray | None:
        """bool in the shape of positions, False for padding; None when every slot is real."""


@dataclass(frozen=True)
class Selection:
    """Selected, as plain data."""

    k: FloatArray
    v: FloatArray
    positions: IntArray
    valid: BoolArray | None = None


class KVStore(Protocol):
    """A cache of keys (after RoPE) and values for one sequence, in all layers.

    For each layer in order, a forward pass over T tokens calls append, then select, then observe. Keys are appended
    in the order of their positions. The T queries are those of the last T positions appended to that layer."""

    @property
    def wants_weights(self) -> bool:
        """Whether observe is to be called. Otherwise attention weights are not kept."""

    @property
    def length(self) -> int:
        """Tokens that every layer holds, which is the position of the next token."""

    def append(self, layer: int, k: FloatArray, v: FloatArray) -> None:
        """Adds T tokens to a layer. k and v are float32 [T, kv_heads, head_dim]; the store copies them."""

    def select(self, layer: int, q: FloatArray) -> Selected:
        """What the queries attend to in this layer; q is float32 [T, q_heads, head_dim] after RoPE, not yet scaled."""

    def observe(self, layer: int, weights: FloatArray) -> None:
        """Takes the softmax weights of the last select, float32 [q_heads, T, S], zero where masked."""

    def truncate(self, length: int) -> None:
        """Forgets every token from position `length` on, in all layers."""


class ContiguousKV:
    """The dense store: one array for keys and one for values, which double when they are full.

    select returns views of them."""

    wants_weights = False

    def __init__(self, num_layers: int, num_kv_heads: int, head_dim: int, capacity: int = 256) -> None:
        shape = (num_layers, num_kv_heads, max(capacity, 1), head_dim)
        self._k = np.zeros(shape, np.float32)
        self._v = np.zeros(shape, np.float32)
        self._lengths = [0] * num_layers

    def __repr__(self) -> str:
        layers, heads, _, dim = self._k.shape
        return f"<ContiguousKV: {self.length} tokens, {layers} layers, {heads} KV heads of {dim}>"

    @property
    def length(self) -> int:
        return min(self._lengths)

    def append(self, layer: int, k: FloatArray, v: FloatArray) -> None:
        start = self._lengths[layer]
        end = start + len(k)
        if end > self._k.shape[2]:
            self._grow(end)
        self._k[layer, :, start:end] = k.swapaxes(0, 1)
        self._v[layer, :, start:end] = v.swapaxes(0, 1)
        self._lengths[layer] = end

    def select(self, layer: int, q: FloatArray) -> Selection:
        end = self._lengths[layer]
        return Selection(self._k[layer, :, :end], self._v[layer, :, :end], np.arange(end))

    def observe(self, layer: int, weights: FloatArray) -> None:
        """Does nothing: a dense store decides nothing, and wants_weights says so."""

    def truncate(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise ModelError(
                f"cannot truncate a cache of {self.length} tokens to {length}: the new length must be from 0 "
                f"to {self.length}"
            )
        self._lengths = [length] * len(self._lengths)

    def _grow(self, needed: int) -> None:
        layers, heads, capacity, dim = self._k.shape
        shape = (layers, heads, max(needed, 2 * capacity), dim)
        for name in ("_k", "_v"):
            grown = np.zeros(shape, np.float32)
            grown[:, :, :capacity] = getattr(self, name)
            setattr(self, name, grown)

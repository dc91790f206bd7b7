"""One sequence as a model uses it: append, select, observe. It has the members of the reference model's KVStore."""

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from kv.arrays import BoolArray, FloatArray, IntArray
from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.policies.base import LayerContext, Policy, ReadKeys, State
from kv.policies.full import Full
from kv.policies.table import UnitTable, choose, table_of
from kv.sequence.attention import attend, spread
from kv.sequence.decode_step import Activity, Chosen, DecodeStep
from kv.sequence.gather import ResolvedTable, Scratch, resolve
from kv.sequence.selection import Selection
from kv.sequence.traffic import StepTraffic

UNLIMITED = 1 << 62
"""The budget, in tokens, if none is given."""


@dataclass
class _Layer:
    """One layer of a sequence.

    state       the policy's state
    length      number of tokens that it holds
    attended    positions and valid of the last selection
    step        the last decode step
    """

    state: State
    length: int = 0
    attended: tuple[IntArray, BoolArray | None] | None = None
    step: DecodeStep | None = None


class PagedKV:
    """A sequence of a PagedCache with a policy.

    Several queries at once are a prefill and attend to everything. A single query attends to what the policy chooses
    within budget_tokens. So if the policy should act on a question, feed the question token by token, as Quest's
    evaluation does."""

    def __init__(
        self,
        cache: PagedCache,
        seq: Hashable,
        policy: Policy | None = None,
        budget_tokens: int | None = None,
        computed: int = 0,
    ) -> None:
        """Creates the sequence in the cache, unless it exists. `policy` None: Full. `budget_tokens` None: no limit.
        `computed`: how many of the first positions of an existing sequence are stored already, as after a prefix hit.
        Raises KVError for a budget below one page."""
        policy = policy or Full()
        budget_tokens = UNLIMITED if budget_tokens is None else budget_tokens
        g = cache.geometry
        page_size = policy.own_page_size or g.page_size
        if budget_tokens < page_size:
            raise KVError(
                f"a budget of {budget_tokens} tokens is below one page of {page_size}: raise the budget or "
                "use smaller pages"
            )
        self.cache, self.seq, self.policy, self.budget_tokens = cache, seq, policy, budget_tokens
        self.activity = Activity()
        self._layers = [
            _Layer(policy.start(LayerContext(g, layer, budget_tokens, cache.pool.dtype.itemsize)))
            for layer in range(g.num_layers)
        ]
        self._scratch = Scratch()
        if seq not in cache.manager.tables:
            cache.allocate(seq)
        for layer, held in enumerate(self._layers if computed else ()):
            held.length = computed
            held.state.append(0, self._keys(layer)().swapaxes(0, 1))

    def __repr__(self) -> str:
        budget = "no budget" if self.budget_tokens == UNLIMITED else f"a budget of {self.budget_tokens} tokens"
        return f"<PagedKV {self.seq!r}: {self.length} tokens in {len(self._layers)} layers, {self.policy}, {budget}>"

    @property
    def wants_weights(self) -> bool:
        """Whether observe must be called after each select."""
        return self.policy.wants_weights

    @property
    def length(self) -> int:
        """Number of tokens that every layer holds."""
        return min(layer.length for layer in self._layers)

    @property
    def last_traffic(self) -> list[StepTraffic | None]:
        """The traffic of the last decode step in each layer; None if there was none. It is counted when this is called,
        which must be before the next append."""
        steps = [layer.step for layer in self._layers]
        return [None if step is None else step.traffic(self.cache, self.seq) for step in steps]

    @property
    def last_table(self) -> list[UnitTable | None]:
        """The table that the last decode step chose in each layer; None if it attended to everything."""
        chosen = [None if layer.step is None else layer.step.chosen for layer in self._layers]
        return [None if choice is None else choice.table for choice in chosen]

    def pages_read(self, layer: int) -> BoolArray:
        """The logical blocks that each KV head's last decode step in a layer read: bool [kv_heads, blocks]."""
        held = self._layers[layer]
        return (held.step or DecodeStep(held.length, None)).pages_read(self.cache.geometry)

    def state(self, layer: int) -> State:
        """The policy's state for a layer."""
        return self._layers[layer].state

    def append(self, layer: int, k: FloatArray, v: FloatArray) -> None:
        """Adds T tokens to a layer. k, v: float32 [T, kv_heads, head_dim], keys after RoPE. Raises KVError for another
        shape, a number that is not finite, or a full pool; then nothing changes."""
        held = self._layers[layer]
        self._require_whole(layer, k, v)
        start, stop = held.length, held.length + len(k)
        missing = stop - self.cache.manager.tables[self.seq].length
        if missing > 0:
            self.cache.append(self.seq, missing)
        self.cache.write(self.seq, layer, start, k, v)
        held.length = stop
        if self.cache.pool.dtype != k.dtype:  # a policy sees what is stored
            k = self.cache.read(self.seq, layer, start, stop)[0].swapaxes(0, 1)
        held.state.append(start, k)

    def select(self, layer: int, q: FloatArray) -> Selection:
        """What the queries `q`, float32 [T, q_heads, head_dim] after RoPE, attend to. The result is valid until the
        next call of append or select. Raises KVError for several queries after the policy has evicted tokens."""
        state = self._layers[layer].state
        if len(q) == 1:
            return self._read(layer, self._choose(layer, q[0]))
        if state.pruned:
            raise KVError(
                f"{self.policy.name} has evicted tokens, so {len(q)} queries at once would see more than "
                "it kept: feed them one by one"
            )
        state.prefill(q)
        return self._read(layer, None)

    def attend(self, layer: int, q: FloatArray) -> FloatArray:
        """Select, attend and observe at once for one token. `q` and the result: float32 [q_heads, head_dim].

        It works on one head after the other, as a paged attention kernel does, so that gathered data is still in the
        CPU's cache when it is used."""
        gather = self._choose(layer, q)
        if gather is None or gather.heads is None:
            parts = [attend(q, self._read(layer, gather))]
        else:
            self._layers[layer].attended = (gather.positions, gather.valid)
            parts = [
                attend(part, gather.row(row).read(self.cache.pool, layer, self._scratch))
                for row, part in enumerate(np.split(q, len(gather.heads)))
            ]
        out, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
        if self.wants_weights:
            self.observe(layer, weights[:, None])
        return out

    def observe(self, layer: int, weights: FloatArray) -> None:
        """Tells the policy the softmax weights of the last select, float32 [q_heads, T, S], 0 for masked positions."""
        held, g = self._layers[layer], self.cache.geometry
        assert held.attended is not None
        weights = spread(weights, *held.attended, held.length)
        held.state.observe(weights.reshape(g.num_kv_heads, g.group, *weights.shape[1:]).sum(1))

    def learn(self) -> None:
        """Lets the policy build from the prompt what decoding needs, so that forks get a copy of it."""
        for layer, held in enumerate(self._layers):
            held.state.learn(self._keys(layer))

    def truncate(self, length: int) -> None:
        """Removes every token from position `length` on, in all layers."""
        if not 0 <= length <= self.length:
            raise KVError(f"cannot truncate a sequence to {length} tokens: give a length from 0 to {self.length}")
        for layer, held in enumerate(self._layers):
            held.state.truncate(length, self._keys(layer))
            held.length = length
        self.cache.truncate(self.seq, length)

    def fork(self, seq: Hashable) -> PagedKV:
        """A second sequence with the same tokens and the same policy state. Both share pages until one of them writes
        to them."""
        return self._child(seq, self.policy, self.budget_tokens, [layer.state for layer in self._layers])

    def under(self, seq: Hashable, policy: Policy, budget_tokens: int) -> PagedKV:
        """A fork that goes on under one of the policies of Several, and under a budget of its own."""
        return self._child(seq, policy, budget_tokens, [layer.state.member(policy) for layer in self._layers])

    def _child(self, seq: Hashable, policy: Policy, budget_tokens: int, states: list[State]) -> PagedKV:
        if max(layer.length for layer in self._layers) > self.length:
            raise KVError(
                f"sequence {self.seq!r} is in the middle of a forward pass: fork it when every layer has "
                "stored the same tokens"
            )
        self.cache.truncate(self.seq, self.length)  # slots that are reserved and not written would be written by both
        self.cache.fork(self.seq, seq)
        try:
            child = PagedKV(self.cache, seq, policy, budget_tokens)
        except KVError:
            self.cache.free(seq)
            raise
        for ours, theirs, state in zip(child._layers, self._layers, states, strict=True):
            ours.state, ours.length = deepcopy(state), theirs.length
            ours.state.rebudget(budget_tokens)
        return child

    def _require_whole(self, layer: int, k: FloatArray, v: FloatArray) -> None:
        g = self.cache.geometry
        if k.shape != v.shape or k.ndim != 3 or k.shape[1:] != (g.num_kv_heads, g.head_dim) or not len(k):
            raise KVError(
                f"keys {k.shape} and values {v.shape} of layer {layer} must both be [T, {g.num_kv_heads}, "
                f"{g.head_dim}] with T >= 1"
            )
        if not (np.isfinite(k).all() and np.isfinite(v).all()):
            raise KVError(
                f"keys or values of layer {layer} from position {self._layers[layer].length} on hold NaN or "
                "infinity: the model overflowed"
            )

    def _keys(self, layer: int) -> ReadKeys:
        return lambda: self.cache.read_keys(self.seq, layer, self._layers[layer].length)

    def _read(self, layer: int, gather: ResolvedTable | None) -> Selection:
        """The keys and values of `gather`, or of the whole layer if it is None."""
        held = self._layers[layer]
        if gather:
            selection = gather.read(self.cache.pool, layer, self._scratch)
        else:
            k, v = self.cache.read(self.seq, layer, 0, held.length)
            selection = Selection(k, v, np.arange(held.length))
        held.attended = (selection.positions, selection.valid)
        return selection

    def _choose(self, layer: int, q: FloatArray) -> ResolvedTable | None:
        """What one token's queries `q`, [q_heads, head_dim], attend to; None if it is everything."""
        held, g = self._layers[layer], self.cache.geometry
        state, length = held.state, held.length
        unit_tokens = state.context.unit_tokens(self.policy.unit)
        num_units, count = -(-length // unit_tokens), -(-self.budget_tokens // unit_tokens)
        self.activity.decode_steps += 1
        if state.dense or (num_units <= count and self.policy.dense_within_budget and not state.pruned):
            held.step = DecodeStep(length, None)
            return None
        width = state.width(count, num_units)
        kept = choose(state.scores(q, self._keys(layer)), width)
        state.chosen(kept)
        table = table_of(kept, width)
        gather = resolve(table, unit_tokens, self.cache.manager.tables[self.seq], length, g)
        held.step = DecodeStep(length, Chosen(table, gather, state.score_bytes))
        skipped = length - int(gather.valid.sum()) // len(kept)
        self.activity.sparse_steps += skipped > 0
        self.activity.tokens_skipped += skipped
        return gather

"""One sequence as a model sees it: append, select, observe. Satisfies the KVStore protocol of the reference model."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from kv.attention import attend
from kv.errors import KVError
from kv.gather import Gather, Scratch, resolve
from kv.memory.cache import PagedCache
from kv.memory.traffic import StepTraffic, dense_traffic, table_traffic
from kv.policies.base import LayerContext, Policy, State, Unit
from kv.policies.full import Full
from kv.policies.several import Several, SeveralState
from kv.selection import PAD, BoolArray, FloatArray, Selection, UnitTable, choose, table_of

IntArray = NDArray[np.int64]


@dataclass
class Activity:
    """What a store did, so that a benchmark cannot take a dense run for a sparse one."""

    decode_steps: int = 0
    """Layers times tokens that were attended one token at a time."""
    sparse_steps: int = 0
    """Of these, those that left something out."""
    tokens_skipped: int = 0
    """Tokens left out, mean over the rows of a selection, summed over steps."""


class PagedKV:
    """A sequence of a PagedCache under a policy.

    Several queries at once are a prefill and see everything; a single query sees what the policy chooses within
    budget_tokens. To have a policy act on a question, feed the question token by token, as Quest's evaluation does."""

    def __init__(
        self,
        cache: PagedCache,
        seq: Hashable,
        policy: Policy | None = None,
        budget_tokens: int | None = None,
        computed: int = 0,
    ) -> None:
        """`computed` leading positions of an existing sequence are stored already (a prefix hit, a fork); else the
        sequence is created."""
        policy = policy or Full()
        budget_tokens = 1 << 62 if budget_tokens is None else budget_tokens
        g = cache.geometry
        if budget_tokens < g.page_size:
            raise KVError(
                f"a budget of {budget_tokens} tokens is below one page of {g.page_size}: raise the budget or "
                "use smaller pages"
            )
        self.cache, self.seq, self.policy, self.budget_tokens = cache, seq, policy, budget_tokens
        self.activity = Activity()
        self.last_table: list[UnitTable | None] = [None] * g.num_layers
        self._traffic: list[Callable[[], StepTraffic] | None] = [None] * g.num_layers
        self._lengths = [0] * g.num_layers
        self._states = [policy.start(self._context(layer)) for layer in range(g.num_layers)]
        self._scratch = Scratch()
        self._seen: list[tuple[IntArray, BoolArray | None] | None] = [
            None
        ] * g.num_layers  # positions, valid of the last selection
        if seq not in cache.manager.tables:
            cache.allocate(seq)
        for layer in range(g.num_layers if computed else 0):
            self._lengths[layer] = computed
            self._states[layer].append(0, cache.read(seq, layer, 0, computed)[0].swapaxes(0, 1))

    @property
    def wants_weights(self) -> bool:
        """Whether observe is to be called."""
        return self.policy.wants_weights

    @property
    def last_traffic(self) -> list[StepTraffic | None]:
        """What the last decode step moved in each layer, None where there was none. Counted when asked for: ask before
        the next append."""
        return [count and count() for count in self._traffic]

    def pages_read(self, layer: int) -> BoolArray:
        """The logical blocks that each KV head's last decode step in a layer read: bool [kv_heads, blocks]."""
        g = self.cache.geometry
        read = np.zeros((g.num_kv_heads, g.pages(self._lengths[layer])), np.bool_)
        table = self.last_table[layer]
        if table is None:
            return ~read
        rows = np.arange(len(table.units) if len(table.units) > 1 else g.num_kv_heads)
        heads = np.broadcast_to((rows * g.num_kv_heads // len(rows))[:, None], (len(rows), table.units.shape[1]))
        units = np.broadcast_to(table.units, heads.shape)
        real = units != PAD
        read[heads[real], units[real] if self.policy.unit is Unit.PAGE else units[real] // g.page_size] = True
        return read

    @property
    def length(self) -> int:
        """Tokens that every layer holds."""
        return min(self._lengths)

    def state(self, layer: int) -> State:
        """What the policy keeps for a layer."""
        return self._states[layer]

    def append(self, layer: int, k: FloatArray, v: FloatArray) -> None:
        """Add T tokens to a layer. k, v: float32 [T, kv_heads, head_dim], keys after RoPE. KVError if the pool is full:
        nothing changes."""
        g = self.cache.geometry
        if k.shape != v.shape or k.ndim != 3 or k.shape[1:] != (g.num_kv_heads, g.head_dim) or not len(k):
            raise KVError(
                f"keys {k.shape} and values {v.shape} of layer {layer} must both be [T, {g.num_kv_heads}, "
                f"{g.head_dim}] with T >= 1"
            )
        if not (np.isfinite(k).all() and np.isfinite(v).all()):
            raise KVError(
                f"keys or values of layer {layer} from position {self._lengths[layer]} on hold NaN or "
                "infinity: the model overflowed"
            )
        start = self._lengths[layer]
        stop = start + len(k)
        missing = stop - self.cache.manager.tables[self.seq].length
        if missing > 0:
            self.cache.append(self.seq, missing)
        self.cache.write(self.seq, layer, start, k, v)
        self._lengths[layer] = stop
        if self.cache.pool.storage.scaled:
            start -= start % g.page_size  # closing a page changes what is stored of its other tokens
        if self.cache.pool.storage.dtype != k.dtype:
            k = self.cache.read(self.seq, layer, start, stop)[0].swapaxes(0, 1)
        self._states[layer].append(start, k)

    def select(self, layer: int, q: FloatArray) -> Selection:
        """What the queries, float32 [T, q_heads, head_dim] after RoPE, attend to. Good until the next call of append or
        select."""
        state = self._states[layer]
        if len(q) > 1:
            if state.pruned:
                raise KVError(
                    f"{self.policy.name} has evicted tokens, so {len(q)} queries at once would see more than "
                    "it kept: feed them one by one"
                )
            state.prefill(q)
            selection = self._dense(layer)
        else:
            gather = self._choose(layer, q[0])
            selection = gather.read(self.cache.pool, layer, self._scratch) if gather else self._dense(layer)
        self._seen[layer] = (selection.positions, selection.valid)
        return selection

    def attend(self, layer: int, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Select, attend and observe in one, for one token: [q_heads, head_dim] queries to output of that shape and
        log-sum-exp [q_heads].

        Goes through the heads one by one, as a paged attention kernel does, so that what is gathered is still in the
        CPU's cache when used."""
        gather = self._choose(layer, q)
        if gather is None or gather.heads is None:
            selection = gather.read(self.cache.pool, layer, self._scratch) if gather else self._dense(layer)
            self._seen[layer] = (selection.positions, selection.valid)
            parts = [attend(q, selection)]
        else:
            self._seen[layer] = (gather.positions, gather.valid)
            rows = np.split(q, len(gather.heads))
            parts = [
                attend(part, gather.row(row).read(self.cache.pool, layer, self._scratch))
                for row, part in enumerate(rows)
            ]
        out, lse, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
        if self.wants_weights:
            self.observe(layer, weights[:, None])
        return out, lse

    def observe(self, layer: int, weights: FloatArray) -> None:
        """The softmax weights of the last select, float32 [q_heads, T, S] (zero where masked)."""
        seen = self._seen[layer]
        assert seen is not None
        positions, valid = seen
        g = self.cache.geometry
        length = self._lengths[layer]
        if positions.shape != (length,):
            rows = np.atleast_2d(positions if valid is None else np.where(valid, positions, length))
            rows = np.repeat(rows, len(weights) // len(rows), axis=0)[:, None, :]
            spread = np.zeros((*weights.shape[:2], length + 1), np.float32)
            np.put_along_axis(spread, np.broadcast_to(rows, weights.shape), weights, 2)
            weights = spread[:, :, :length]
        self._states[layer].observe(weights.reshape(g.num_kv_heads, g.group, *weights.shape[1:]).sum(1))

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on, in all layers."""
        if not 0 <= length <= self.length:
            raise KVError(f"cannot truncate a sequence of {self.length} tokens to {length}: from 0 to {self.length}")
        for layer, state in enumerate(self._states):
            state.truncate(length)
            self._lengths[layer] = length
        self.cache.truncate(self.seq, length)

    def fork(self, seq: Hashable) -> PagedKV:
        """A second sequence with the same tokens and the same policy state, sharing pages until one of them writes."""
        self._fork_pages(seq)
        return self._child(seq, self.policy, self.budget_tokens, self._states)

    def _fork_pages(self, seq: Hashable) -> None:
        if max(self._lengths) > self.length:
            raise KVError(
                f"sequence {self.seq!r} is in the middle of a forward pass: fork it when every layer has "
                "stored the same tokens"
            )
        self.cache.truncate(self.seq, self.length)  # slots that are reserved and not written would be written by both
        self.cache.fork(self.seq, seq)

    def under(self, seq: Hashable, policy: Policy, budget_tokens: int) -> PagedKV:
        """A fork that goes on under one of the policies of Several, and under a budget of its own."""
        assert isinstance(self.policy, Several)
        members = [cast(SeveralState, state).members[policy] for state in self._states]
        self._fork_pages(seq)
        child = self._child(seq, policy, budget_tokens, members)
        for state in child._states:
            state.rebudget(budget_tokens)
        return child

    def learn(self) -> None:
        """Let the policy build what decoding needs from the prompt, before forks copy it."""
        for state in self._states:
            state.learn()

    def _child(self, seq: Hashable, policy: Policy, budget_tokens: int, states: list[State]) -> PagedKV:
        child = PagedKV(self.cache, seq, policy, budget_tokens)
        child._lengths = list(self._lengths)
        child._states = deepcopy(
            states, {id(self): child}
        )  # contexts read keys through self: they now read them through child
        return child

    def _context(self, layer: int) -> LayerContext:
        return LayerContext(
            self.cache.geometry,
            layer,
            self.budget_tokens,
            self.cache.pool.storage.dtype.itemsize,
            partial(self._stored_keys, layer),
        )

    def _stored_keys(self, layer: int) -> FloatArray:
        return self.cache.read_keys(self.seq, layer, self._lengths[layer])

    def _dense(self, layer: int) -> Selection:
        length = self._lengths[layer]
        k, v = self.cache.read(self.seq, layer, 0, length)
        return Selection(k, v, np.arange(length))

    def _choose(self, layer: int, q: FloatArray) -> Gather | None:
        """What one token's queries, [q_heads, head_dim], attend to; None if it is everything."""
        state, length, g = self._states[layer], self._lengths[layer], self.cache.geometry
        unit_tokens = g.page_size if self.policy.unit is Unit.PAGE else 1
        num_units, count = -(-length // unit_tokens), -(-self.budget_tokens // unit_tokens)
        self.activity.decode_steps += 1
        if state.dense or (num_units <= count and self.policy.dense_within_budget and not state.pruned):
            self.last_table[layer] = None
            self._traffic[layer] = partial(dense_traffic, self.cache, self.seq, length)
            return None
        width = state.width(count, num_units)
        kept = choose(state.scores(q), width)
        state.chosen(kept)
        table = table_of(kept, width)
        gather = resolve(table, unit_tokens, self.cache.manager.tables[self.seq], length, g)
        kept_tokens = int(gather.valid.sum())
        skipped = length - kept_tokens // len(kept)
        self.activity.sparse_steps += skipped > 0
        self.activity.tokens_skipped += skipped
        self.last_table[layer] = table
        self._traffic[layer] = partial(
            table_traffic, self.cache, gather.slots, table, unit_tokens, kept_tokens, state.score_bytes
        )
        return gather

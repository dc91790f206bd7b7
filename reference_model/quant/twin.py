"""The decoder in the chip's arithmetic: reference_model.model with each step from reference_model.quant.ops.

T is the number of new tokens, d the hidden size. Every operation treats a row by itself and sums in an order that
does not depend on the number of rows. So tokens give the same bits one by one and in chunks of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from npusim.numerics.blas import one_blas_thread
from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.kv_store import ContiguousKV, FloatArray, IntArray, KVStore, Selected
from reference_model.model import check_ids
from reference_model.quant import ops
from reference_model.quant.arith import Patterns, floats, patterns
from reference_model.quant.linear import Bf16Linear, Int8Linear, Linear
from reference_model.quant.products import Numbers
from reference_model.tokenizer import Tokenizer

CHUNK = 128
"""Tokens computed at once. A long prompt needs no more memory than so many rows."""

Norm = tuple[Patterns, np.uint16]
"""The constants of ops.rms_norm."""
Rope = tuple[Patterns, Patterns]


@dataclass(frozen=True, eq=False)
class TwinLayer:
    """The matrices and norms of one layer.

    The query rows of qkv, or the gain of q_norm, hold the scale of the queries. Rows of queries and keys are in
    halves layout."""

    attention_norm: Norm
    qkv: Linear
    output: Linear
    mlp_norm: Norm
    gate_up: Linear
    down: Linear
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    post_attention_norm: Norm | None = None
    post_mlp_norm: Norm | None = None


class TwinModel:
    """A quantised model.

    It keeps nothing between calls; what it remembers of a sequence is in the KV store, as bf16 numbers."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        precision: str,
        layers: tuple[TwinLayer, ...],
        *,
        embedding: Bf16Linear | Int8Linear,
        head: Linear,
        final_norm: Norm,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.precision = precision
        self.layers = layers
        self.embedding = embedding
        self.final_norm = final_norm
        self._head = head

    def __repr__(self) -> str:
        return f"<TwinModel in {self.precision}: {self.config.summary}>"

    def with_layers(self, layers: tuple[TwinLayer, ...]) -> TwinModel:
        """The same model with other layers."""
        return TwinModel(
            self.config,
            self.tokenizer,
            self.precision,
            layers,
            embedding=self.embedding,
            head=self._head,
            final_norm=self.final_norm,
        )

    def new_kv(self, capacity: int = 256) -> ContiguousKV:
        """An empty dense store for one sequence, with room for `capacity` tokens before it grows."""
        return ContiguousKV(self.config.num_layers, self.config.num_kv_heads, self.config.head_dim, capacity)

    @one_blas_thread
    def forward(self, token_ids: Sequence[int] | IntArray, kv: KVStore | None = None) -> FloatArray:
        """Logits [T, vocab], float32 values of bf16 numbers, row i after token i; see Model.forward.

        Any KVStore will do. It is given bf16 numbers in float32 arrays, and must return them unchanged."""
        return floats(self.head(self.hidden(token_ids, kv)))

    @one_blas_thread
    def hidden(
        self,
        token_ids: Sequence[int] | IntArray,
        kv: KVStore | None = None,
        tap: Callable[[int, FloatArray], None] | None = None,
    ) -> Patterns:
        """The normalised state that the head reads, bf16 patterns [T, d].

        `tap` is that of Model.hidden; it is given float32 values of CHUNK tokens."""
        ids = check_ids(token_ids, self.config)
        kv = self.new_kv(len(ids)) if kv is None else kv
        if kv.length + len(ids) > self.config.context_length:
            raise ModelError(
                f"{kv.length + len(ids)} tokens do not fit in this model's context of "
                f"{self.config.context_length}: shorten the text"
            )
        parts = [self._hidden(ids[start : start + CHUNK], kv, tap) for start in range(0, len(ids), CHUNK)]
        return np.concatenate(parts)

    def _hidden(self, ids: IntArray, kv: KVStore, tap: Callable[[int, FloatArray], None] | None) -> Patterns:
        positions = np.arange(kv.length, kv.length + len(ids))  # [T]
        ropes = self.ropes(positions)
        x = self.embed(ids)
        for index in range(self.config.num_layers):
            x = self.layer(index, x, kv, positions, ropes)
            if tap is not None:
                tap(index, floats(x))
        return ops.rms_norm(x, *self.final_norm)

    def embed(self, ids: IntArray) -> Patterns:
        """[T] -> [T, d]: rows of the embedding, which the host looks up, scales and rounds once."""
        return patterns(self.embedding.rows(ids) * np.float32(self.config.embedding_scale))

    def ropes(self, positions: IntArray) -> tuple[Rope, Rope]:
        """(cos, sin) rows of the full layers, and of the sliding ones."""
        config = self.config
        full = ops.rope_rows(positions, config.head_dim, config.rope_theta)
        return full, ops.rope_rows(positions, config.head_dim, config.local_rope_theta) if any(
            config.sliding_layers
        ) else full

    @property
    def head_matrix(self) -> Linear:
        """The matrix that `head` multiplies by, [vocab, d]."""
        return self._head

    @one_blas_thread
    def head(self, hidden: Patterns) -> Patterns:
        """[T, d] -> logits [T, vocab], bf16."""
        return self._head.product(hidden)

    @one_blas_thread
    def layer(self, index: int, x: Patterns, kv: KVStore, positions: IntArray, ropes: tuple[Rope, Rope]) -> Patterns:
        """One decoder layer: the residual stream [T, d] at `positions` before it -> after it.

        Appends to its layer of `kv`."""
        config, layer = self.config, self.layers[index]
        mixed = self._attention(index, x, kv, positions, ropes[config.sliding_layers[index]])
        x = _onto(x, layer.output, mixed, layer.post_attention_norm)
        gate_up = layer.gate_up.product(ops.rms_norm(x, *layer.mlp_norm))  # [T, 2 * intermediate]
        gate, up = gate_up[:, : config.intermediate_size], gate_up[:, config.intermediate_size :]
        gate = ops.silu(gate) if config.activation == "silu" else ops.gelu_tanh(gate)
        return _onto(x, layer.down, ops.mul(gate, up), layer.post_mlp_norm)

    def _attention(self, index: int, x: Patterns, kv: KVStore, positions: IntArray, rope: Rope) -> Patterns:
        config, layer = self.config, self.layers[index]
        heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
        qkv = layer.qkv.product(ops.rms_norm(x, *layer.attention_norm))  # [T, (heads + 2 kv_heads) * head_dim]
        qkv = qkv.reshape(len(x), heads + 2 * kv_heads, dim)
        qk, v = qkv[:, : heads + kv_heads], qkv[:, heads + kv_heads :]
        if layer.q_norm is not None and layer.k_norm is not None:
            qk = np.hstack([_norm_heads(qk[:, :heads], layer.q_norm), _norm_heads(qk[:, heads:], layer.k_norm)])
        qk = ops.rope(qk, *rope)
        q, k = qk[:, :heads], qk[:, heads:]  # [T, heads, head_dim] each
        kv.append(index, floats(k), floats(v))
        window = config.sliding_window * config.sliding_layers[index]
        out, weights = attend(q, positions, kv.select(index, floats(q)), window)
        if kv.wants_weights:
            kv.observe(index, weights())
        return out.reshape(len(x), -1)


def _onto(x: Patterns, linear: Linear, mixed: Patterns, norm: Norm | None) -> Patterns:
    """The residual x plus a block's last product, which may be normalised first."""
    return linear.add_to(x, mixed) if norm is None else ops.add(x, ops.rms_norm(linear.product(mixed), *norm))


def _norm_heads(x: Patterns, norm: Norm) -> Patterns:
    return ops.rms_norm(x.reshape(-1, x.shape[-1]), *norm).reshape(x.shape)


def attend(
    q: Patterns, positions: IntArray, selection: Selected, window: int
) -> tuple[Patterns, Callable[[], FloatArray]]:
    """ops.attention for all heads over what a KV store selected; q is [T, q_heads, head_dim], scaled.

    Returns [T, q_heads, head_dim], and a function that gives the softmax weights, float32 [q_heads, T, S]."""
    num_queries, num_heads, dim = q.shape
    kv_heads, num_slots, _ = selection.k.shape
    grouped = q.reshape(num_queries, kv_heads, -1, dim).transpose(1, 2, 0, 3)  # [kv_heads, G, T, head_dim]
    group = grouped.shape[1]
    left = grouped.reshape(kv_heads, group * num_queries, dim)
    k, v = Numbers.of_floats(selection.k), Numbers.of_floats(selection.v)
    hidden = _hidden_slots(positions, selection, window)
    mask = np.tile(np.where(hidden, ops.MASKED, ops.ZERO), (1, group, 1)) if hidden.any() else None  # as left and k'
    out = ops.attention(left, k, v, mask)  # [kv_heads, G * T, head_dim]
    out = out.reshape(kv_heads, group, num_queries, dim).transpose(2, 0, 1, 3).reshape(num_queries, num_heads, dim)

    def weights() -> FloatArray:
        shares = ops.mul(*ops.attention_weights(left, k, mask))
        return floats(shares).reshape(num_heads, num_queries, num_slots)

    return out, weights


def _hidden_slots(positions: IntArray, selection: Selected, window: int) -> np.ndarray:
    """Which slots each query must not see: bool [1 or kv_heads, T, S]."""
    slots = np.atleast_2d(selection.positions)[:, None, :]
    queries = positions[:, None]
    hidden = slots > queries
    if window:
        hidden |= slots <= queries - window
    if selection.valid is not None:
        hidden |= ~np.atleast_2d(selection.valid)[:, None, :]
    return hidden

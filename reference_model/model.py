"""The decoder: token ids and a KV store in, logits out. T is the number of new tokens, d the hidden size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from npusim.numerics.blas import one_blas_thread
from reference_model.attention import attend
from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.kv_store import ContiguousKV, FloatArray, IntArray, KVStore
from reference_model.layers import gelu_tanh, linear, rms_norm, rope_table, rotate, silu
from reference_model.tokenizer import Tokenizer
from reference_model.weights import LayerWeights, Weights

Rope = tuple[FloatArray, FloatArray]

# Tokens that pass the MLP at a time: a long prompt does not need 2 * intermediate values for all of them at once.
MLP_BLOCK = 512


class Model:
    """A loaded model. It keeps nothing between calls; what it remembers of a sequence is in the KV store."""

    def __init__(self, config: ModelConfig, weights: Weights, tokenizer: Tokenizer) -> None:
        self.config = config
        self.weights = weights
        self.tokenizer = tokenizer

    def __repr__(self) -> str:
        return f"<Model: {self.config.summary}>"

    def new_kv(self, capacity: int = 256) -> ContiguousKV:
        """An empty dense store for one sequence, with room for `capacity` tokens before it grows."""
        return ContiguousKV(self.config.num_layers, self.config.num_kv_heads, self.config.head_dim, capacity)

    @one_blas_thread
    def forward(self, token_ids: Sequence[int] | IntArray, kv: KVStore | None = None) -> FloatArray:
        """Logits float32 [T, vocab], row i after token i.

        The tokens follow those that `kv` holds; without `kv` they start a sequence. Raises ModelError for ids
        outside the vocabulary and for more tokens than the model's context."""
        return self.head(self.hidden(token_ids, kv))

    @one_blas_thread
    def hidden(
        self,
        token_ids: Sequence[int] | IntArray,
        kv: KVStore | None = None,
        tap: Callable[[int, FloatArray], None] | None = None,
    ) -> FloatArray:
        """The normalised state [T, d] that the head reads.

        It is forward without the largest product, for when only some rows' logits matter. `tap` is called with the
        number of each layer and the residual stream [T, d] after it."""
        config, weights = self.config, self.weights
        ids = check_ids(token_ids, config)
        kv = self.new_kv(len(ids)) if kv is None else kv
        if kv.length + len(ids) > config.context_length:
            raise ModelError(
                f"{kv.length + len(ids)} tokens do not fit in this model's context of "
                f"{config.context_length}: shorten the text"
            )
        positions = np.arange(kv.length, kv.length + len(ids))  # [T]
        ropes = self.ropes(positions)
        x = self.embed(ids)
        for index in range(config.num_layers):
            x = self.layer(index, x, [kv], positions, ropes)
            if tap is not None:
                tap(index, x)
        return rms_norm(x, weights.final_norm, config.norm_eps)

    @one_blas_thread
    def step(self, token_ids: Sequence[int] | IntArray, kvs: Sequence[KVStore]) -> FloatArray:
        """One more token for each of B sequences: logits [B, vocab]. The weights are read once for all of them.

        Equals forward([token], kv) of each, except for the order of float32 sums. Errors as in forward."""
        config, ids = self.config, check_ids(token_ids, self.config)
        if len(ids) != len(kvs):
            raise ModelError(f"{len(ids)} tokens for {len(kvs)} sequences: give one token for each")
        positions = np.array([kv.length for kv in kvs])
        if positions.max() >= config.context_length:
            raise ModelError(f"a sequence fills this model's context of {config.context_length}: stop it before")
        ropes = self.ropes(positions)
        x = self.embed(ids)
        for index in range(config.num_layers):
            x = self.layer(index, x, kvs, positions, ropes)
        return self.head(rms_norm(x, self.weights.final_norm, config.norm_eps))

    def embed(self, ids: IntArray) -> FloatArray:
        """Token ids [T] -> embeddings [T, d]."""
        return self.weights.embedding[ids] * np.float32(self.config.embedding_scale)

    def ropes(self, positions: IntArray) -> tuple[Rope, Rope]:
        """(cos, sin) of the full layers, and of the sliding ones."""
        config = self.config
        full = rope_table(positions, config.head_dim, config.rope_theta)
        return full, rope_table(positions, config.head_dim, config.local_rope_theta) if any(
            config.sliding_layers
        ) else full

    @one_blas_thread
    def layer(
        self, index: int, x: FloatArray, kvs: Sequence[KVStore], positions: IntArray, ropes: tuple[Rope, Rope]
    ) -> FloatArray:
        """One decoder layer: the residual stream [T, d] at `positions` before it -> after it.

        Appends to its layer of each store. `kvs` are the sequences that the rows belong to: one of all T tokens, or
        T of one token each."""
        weights = self.weights.layers[index]
        x = x + self._attention(index, x, kvs, positions, ropes[self.config.sliding_layers[index]])
        for start in range(0, len(x), MLP_BLOCK):
            x[start : start + MLP_BLOCK] += self._mlp(weights, x[start : start + MLP_BLOCK])
        return x

    @one_blas_thread
    def head(self, hidden: FloatArray) -> FloatArray:
        """[T, d] -> logits [T, vocab]."""
        return linear(hidden, self.weights.head)

    def _attention(
        self, index: int, x: FloatArray, kvs: Sequence[KVStore], positions: IntArray, rope: Rope
    ) -> FloatArray:
        config, layer = self.config, self.weights.layers[index]
        heads, kv_heads = config.num_heads, config.num_kv_heads
        qkv = linear(rms_norm(x, layer.attention_norm, config.norm_eps), layer.qkv)
        qkv = qkv.reshape(len(x), heads + 2 * kv_heads, config.head_dim)
        qk, v = qkv[:, : heads + kv_heads], qkv[:, heads + kv_heads :]
        if layer.q_norm is not None and layer.k_norm is not None:
            gains = np.repeat(np.stack([layer.q_norm, layer.k_norm]), (heads, kv_heads), axis=0)  # one for each head
            qk = rms_norm(qk, gains, config.norm_eps)
        qk = rotate(qk, *rope, config.rope_interleaved)
        q, k = qk[:, :heads], qk[:, heads:]  # [T, heads, head_dim] each
        share = len(x) // len(kvs)  # rows of each sequence
        rows = [slice(start, start + share) for start in range(0, len(x), share)]
        mixed = [
            self._mix(index, kv, positions[own], (q[own], k[own], v[own])) for kv, own in zip(kvs, rows, strict=True)
        ]
        out = linear(np.concatenate(mixed).reshape(len(x), -1), layer.output)  # [T, d]
        return out if layer.post_attention_norm is None else rms_norm(out, layer.post_attention_norm, config.norm_eps)

    def _mix(
        self, index: int, kv: KVStore, positions: IntArray, qkv: tuple[FloatArray, FloatArray, FloatArray]
    ) -> FloatArray:
        """Attention of one sequence's new tokens in a layer, after their keys and values are stored.

        qkv is q [T, heads, head_dim], k and v [T, kv_heads, head_dim]. -> [T, heads, head_dim]."""
        q, k, v = qkv
        window = self.config.sliding_window * self.config.sliding_layers[index]
        kv.append(index, k, v)
        selection = kv.select(index, q)  # k, v [kv_heads, S, head_dim]
        out, seen = attend(q * np.float32(self.config.query_scale), positions, selection, window, kv.wants_weights)
        if seen is not None:
            kv.observe(index, seen)
        return out

    def _mlp(self, layer: LayerWeights, x: FloatArray) -> FloatArray:
        config = self.config
        gate_up = linear(rms_norm(x, layer.mlp_norm, config.norm_eps), layer.gate_up)  # [T, 2 * intermediate]
        gate, up = gate_up[:, : config.intermediate_size], gate_up[:, config.intermediate_size :]
        gate = silu(gate) if config.activation == "silu" else gelu_tanh(gate)
        gate *= up
        out = linear(gate, layer.down)  # [T, d]
        return out if layer.post_mlp_norm is None else rms_norm(out, layer.post_mlp_norm, config.norm_eps)


def check_ids(token_ids: Sequence[int] | IntArray, config: ModelConfig) -> IntArray:
    """The ids as an array. Raises ModelError for what is not a list of ids, and for ids outside the vocabulary."""
    ids = np.asarray(token_ids)
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise ModelError(
            f"token ids of shape {ids.shape} and type {ids.dtype}: give a list of at least one whole number"
        )
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        worst = ids.max() if ids.min() >= 0 else ids.min()
        raise ModelError(
            f"token id {worst} is outside this model's vocabulary of {config.vocab_size}: encode with its tokenizer"
        )
    return ids.astype(np.int64)

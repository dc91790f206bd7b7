"""Loss and gradients of a Llama-style model, written out by hand.

Parameters are a dict with the names of the hub's files."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.numerics.blas import one_blas_thread
from reference_model.config import ModelConfig
from reference_model.train.attention import attention_backward, attention_forward
from reference_model.train.blocks import (
    Array,
    cross_entropy,
    linear_backward,
    rms_norm_backward,
    rms_norm_forward,
    rotate_halves,
    swiglu_backward,
    swiglu_forward,
)

Params = dict[str, Array]
EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"


def initial_params(config: ModelConfig, seed: int, dtype: Any = np.float32) -> Params:
    """Normal weights of deviation 0.02; gains of one.

    As in GPT-2, weights that write to the residual stream are divided by sqrt(2 layers)."""
    rng = np.random.default_rng([seed, 0])
    d, ffn = config.hidden_size, config.intermediate_size
    q_dim, kv_dim = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    residual = 0.02 / np.sqrt(2 * config.num_layers)

    def normal(rows: int, columns: int, std: float = 0.02) -> Array:
        return (rng.standard_normal((rows, columns)) * std).astype(dtype)

    params: Params = {EMBEDDING: normal(config.vocab_size, d)}
    for layer in range(config.num_layers):
        at = f"model.layers.{layer}."
        params[at + "input_layernorm.weight"] = np.ones(d, dtype)
        params[at + "self_attn.q_proj.weight"] = normal(q_dim, d)
        params[at + "self_attn.k_proj.weight"] = normal(kv_dim, d)
        params[at + "self_attn.v_proj.weight"] = normal(kv_dim, d)
        params[at + "self_attn.o_proj.weight"] = normal(d, q_dim, residual)
        params[at + "post_attention_layernorm.weight"] = np.ones(d, dtype)
        params[at + "mlp.gate_proj.weight"] = normal(ffn, d)
        params[at + "mlp.up_proj.weight"] = normal(ffn, d)
        params[at + "mlp.down_proj.weight"] = normal(d, ffn, residual)
    params[FINAL_NORM] = np.ones(d, dtype)
    return params


class Batch(NamedTuple):
    """tokens and targets int [B, T]; weights float [B, T], how much each target counts in the loss."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: Array


class _Saved(NamedTuple):
    """What the backward of one layer needs: inputs of the products, the norms' 1 / rms, the softmax weights."""

    x: Array
    inverse: Array
    normed: Array
    q: Array
    k: Array
    v: Array
    heads: Array
    blocks: list[Array]
    middle: Array
    middle_inverse: Array
    middle_normed: Array
    gate: Array
    up: Array
    sigmoid: Array
    hidden: Array


def rope_tables(config: ModelConfig, length: int, dtype: Any) -> tuple[Array, Array]:
    """cos, sin [T, 1, head_dim / 2] for positions 0 .. T - 1."""
    half = config.head_dim // 2
    angles = np.outer(np.arange(length), config.rope_theta ** (-np.arange(half) / half))[:, None, :]
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


@one_blas_thread
def loss_and_gradients(params: Params, config: ModelConfig, batch: Batch) -> tuple[float, Params]:
    """The weighted sum of -log p over the batch, and its derivative by each parameter."""
    x, saved, rope = _forward(params, config, batch.tokens)
    normed, inverse = rms_norm_forward(x, params[FINAL_NORM], config.norm_eps)
    loss, dlogits = cross_entropy(normed @ params[EMBEDDING].T, batch.targets.ravel(), batch.weights.ravel())
    grads: Params = {}
    dnormed, dembedding = linear_backward(dlogits, normed, params[EMBEDDING])
    dx, grads[FINAL_NORM] = rms_norm_backward(dnormed, x, params[FINAL_NORM], inverse)
    for layer in reversed(range(config.num_layers)):
        at, shape = f"model.layers.{layer}.", batch.tokens.shape
        dx = _layer_backward(params, grads, at, dx, saved.pop(), scale=config.query_scale, rope=rope, shape=shape)
    np.add.at(dembedding, batch.tokens.ravel(), dx)
    grads[EMBEDDING] = dembedding
    return loss, grads


@one_blas_thread
def loss_only(params: Params, config: ModelConfig, batch: Batch) -> float:
    """The weighted sum of -log p over the batch."""
    x, _, _ = _forward(params, config, batch.tokens)
    normed, _ = rms_norm_forward(x, params[FINAL_NORM], config.norm_eps)
    return cross_entropy(normed @ params[EMBEDDING].T, batch.targets.ravel(), batch.weights.ravel())[0]


def _forward(
    params: Params, config: ModelConfig, tokens: NDArray[np.int64]
) -> tuple[Array, list[_Saved], tuple[Array, Array]]:
    rope = rope_tables(config, tokens.shape[1], params[EMBEDDING].dtype)
    x = params[EMBEDDING][tokens.ravel()]  # [N = B * T, d]
    saved = []
    for layer in range(config.num_layers):
        x, kept = _layer_forward(params, config, f"model.layers.{layer}.", x, rope=rope, shape=tokens.shape)
        saved.append(kept)
    return x, saved, rope


def _layer_forward(
    params: Params, config: ModelConfig, at: str, x: Array, *, rope: tuple[Array, Array], shape: tuple[int, ...]
) -> tuple[Array, _Saved]:
    batch, length = shape
    kv, group, dim = config.num_kv_heads, config.group_size, config.head_dim
    normed, inverse = rms_norm_forward(x, params[at + "input_layernorm.weight"], config.norm_eps)
    q = (normed @ params[at + "self_attn.q_proj.weight"].T).reshape(batch, length, kv * group, dim)
    k = (normed @ params[at + "self_attn.k_proj.weight"].T).reshape(batch, length, kv, dim)
    v = (normed @ params[at + "self_attn.v_proj.weight"].T).reshape(batch, length, kv, dim)
    q = rotate_halves(q, *rope) * q.dtype.type(config.query_scale)
    q = q.reshape(batch, length, kv, group, dim).transpose(0, 2, 3, 1, 4)  # [B, kv, group, T, dim]
    k = rotate_halves(k, *rope).swapaxes(1, 2)[:, :, None]  # [B, kv, 1, T, dim]
    v = v.swapaxes(1, 2)[:, :, None]
    heads, blocks = attention_forward(q, k, v)
    middle = x + _merge(heads) @ params[at + "self_attn.o_proj.weight"].T
    middle_normed, middle_inverse = rms_norm_forward(
        middle, params[at + "post_attention_layernorm.weight"], config.norm_eps
    )
    gate = middle_normed @ params[at + "mlp.gate_proj.weight"].T
    up = middle_normed @ params[at + "mlp.up_proj.weight"].T
    hidden, sigmoid = swiglu_forward(gate, up)
    out = middle + hidden @ params[at + "mlp.down_proj.weight"].T
    return out, _Saved(
        x=x,
        inverse=inverse,
        normed=normed,
        q=q,
        k=k,
        v=v,
        heads=heads,
        blocks=blocks,
        middle=middle,
        middle_inverse=middle_inverse,
        middle_normed=middle_normed,
        gate=gate,
        up=up,
        sigmoid=sigmoid,
        hidden=hidden,
    )


def _layer_backward(
    params: Params,
    grads: Params,
    at: str,
    dout: Array,
    s: _Saved,
    *,
    scale: float,
    rope: tuple[Array, Array],
    shape: tuple[int, ...],
) -> Array:
    def linear(dy: Array, x: Array, name: str) -> Array:
        dx, grads[at + name] = linear_backward(dy, x, params[at + name])
        return dx

    def norm(dy: Array, x: Array, inverse: Array, name: str) -> Array:
        dx, grads[at + name] = rms_norm_backward(dy, x, params[at + name], inverse)
        return dx

    dgate, dup = swiglu_backward(linear(dout, s.hidden, "mlp.down_proj.weight"), s.gate, s.up, s.sigmoid)
    dnormed = linear(dgate, s.middle_normed, "mlp.gate_proj.weight")
    dnormed += linear(dup, s.middle_normed, "mlp.up_proj.weight")
    dmiddle = dout + norm(dnormed, s.middle, s.middle_inverse, "post_attention_layernorm.weight")
    dheads = linear(dmiddle, _merge(s.heads), "self_attn.o_proj.weight")
    dheads = dheads.reshape(*shape, *s.heads.shape[1:3], -1).transpose(0, 2, 3, 1, 4)
    dq, dk, dv = attention_backward(dheads, s.q, s.k, s.v, out=s.heads, blocks=s.blocks)
    dnormed = linear(_unrotate(dq, rope, shape) * dq.dtype.type(scale), s.normed, "self_attn.q_proj.weight")
    dnormed += linear(_unrotate(dk, rope, shape), s.normed, "self_attn.k_proj.weight")
    dnormed += linear(_merge(dv), s.normed, "self_attn.v_proj.weight")
    return dmiddle + norm(dnormed, s.x, s.inverse, "input_layernorm.weight")


def _merge(heads: Array) -> Array:
    """[B, kv, group, T, dim] -> [B * T, kv * group * dim]."""
    return heads.transpose(0, 3, 1, 2, 4).reshape(heads.shape[0] * heads.shape[3], -1)


def _unrotate(dx: Array, rope: tuple[Array, Array], shape: tuple[int, ...]) -> Array:
    """The backward of RoPE: [B, kv, group, T, dim] -> [B * T, kv * group * dim]."""
    cos, sin = rope
    turned = rotate_halves(_merge(dx).reshape(*shape, -1, dx.shape[-1]), cos, -sin)
    return turned.reshape(shape[0] * shape[1], -1)

"""Causal attention and its derivative, one block of queries at a time.

So the half of the scores that is masked is never computed. Shapes: q, out [B, kv_heads, group, T, head_dim]; k, v
[B, kv_heads, 1, T, head_dim]. The group of query heads broadcasts over its KV head."""

from __future__ import annotations

import numpy as np

from reference_model.train.blocks import Array

QUERY_BLOCK = 128


def attention_forward(q: Array, k: Array, v: Array) -> tuple[Array, list[Array]]:
    """out, and the softmax weights of each block [B, kv_heads, group, block, keys seen].

    q is already scaled."""
    length = q.shape[-2]
    out = np.empty(q.shape, q.dtype)
    blocks = []
    for start in range(0, length, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, length)
        weights = q[..., start:end, :] @ k[..., :end, :].swapaxes(-1, -2)
        weights[..., start:] += np.triu(np.full((end - start, end - start), -np.inf, q.dtype), 1)
        weights -= weights.max(-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(-1, keepdims=True)
        out[..., start:end, :] = weights @ v[..., :end, :]
        blocks.append(weights)
    return out, blocks


def attention_backward(
    dout: Array, q: Array, k: Array, v: Array, *, out: Array, blocks: list[Array]
) -> tuple[Array, Array, Array]:
    """dq, dk, dv, of the shapes of q, k, v.

    The softmax's derivative needs sum(dweights * weights) for each query, which is sum(dout * out) (FlashAttention,
    arXiv:2205.14135, B.2)."""
    delta = (dout * out).sum(-1, keepdims=True)
    dq = np.empty(q.shape, q.dtype)
    dk, dv = np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)
    for index, weights in enumerate(blocks):
        start = index * QUERY_BLOCK
        end = start + weights.shape[-2]
        dout_block = dout[..., start:end, :]
        dv[..., :end, :] += (weights.swapaxes(-1, -2) @ dout_block).sum(2, keepdims=True)
        dscores = dout_block @ v[..., :end, :].swapaxes(-1, -2)
        dscores -= delta[..., start:end, :]
        dscores *= weights
        dq[..., start:end, :] = dscores @ k[..., :end, :]
        dk[..., :end, :] += (dscores.swapaxes(-1, -2) @ q[..., start:end, :]).sum(2, keepdims=True)
    return dq, dk, dv

"""Attention of one token over a selection, and the attention weights of all positions."""

from __future__ import annotations

import numpy as np

from kv.arrays import BoolArray, FloatArray, IntArray
from kv.sequence.selection import Selection


def attend(q: FloatArray, selection: Selection) -> tuple[FloatArray, FloatArray]:
    """softmax(q k' / sqrt(head_dim)) v for one token's queries `q`, float32 [q_heads, head_dim].

    -> (output, float32 [q_heads, head_dim]; softmax weights, float32 [q_heads, S])
    """
    num_heads, dim = q.shape
    heads = len(selection.k)
    scores = (q / np.float32(np.sqrt(dim))).reshape(heads, -1, dim) @ selection.k.swapaxes(1, 2)  # [heads, group, S]
    if selection.valid is not None:
        np.copyto(scores, -np.inf, where=~np.atleast_2d(selection.valid)[:, None, :])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True)
    out = (weights @ selection.v) / total
    return out.reshape(num_heads, dim), (weights / total).reshape(num_heads, -1)


def spread(weights: FloatArray, positions: IntArray, valid: BoolArray | None, length: int) -> FloatArray:
    """The weights of all positions, float32 [q_heads, T, length], given those of a selection's slots, float32 [q_heads,
    T, S]. A position that is not in the selection has weight 0."""
    if positions.shape == (length,):
        return weights
    rows = np.atleast_2d(positions if valid is None else np.where(valid, positions, length))
    rows = np.repeat(rows, len(weights) // len(rows), axis=0)[:, None, :]
    whole = np.zeros((*weights.shape[:2], length + 1), np.float32)  # padding goes to the column past the end
    np.put_along_axis(whole, np.broadcast_to(rows, weights.shape), weights, 2)
    return whole[:, :, :length]

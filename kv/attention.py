"""Attention of one query over a selection, with the log-sum-exp that merges partial results and that certificates
need."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kv.selection import FloatArray, Selection


def attend(q: FloatArray, selection: Selection) -> tuple[FloatArray, NDArray[np.float32], FloatArray]:
    """softmax(q k' / sqrt(head_dim)) v of one token's queries, float32 [q_heads, head_dim].

    -> output [q_heads, head_dim], log-sum-exp of the scaled scores [q_heads], softmax weights [q_heads, S]
    """
    num_heads, dim = q.shape
    heads = len(selection.k)
    scores = (q / np.float32(np.sqrt(dim))).reshape(heads, -1, dim) @ selection.k.swapaxes(1, 2)  # [heads, group, S]
    if selection.valid is not None:
        np.copyto(scores, -np.inf, where=~np.atleast_2d(selection.valid)[:, None, :])
    peak = scores.max(-1, keepdims=True)
    weights = np.exp(scores - peak)
    total = weights.sum(-1, keepdims=True)
    out = (weights @ selection.v) / total
    lse = np.log(total) + peak
    return out.reshape(num_heads, dim), lse.reshape(num_heads), (weights / total).reshape(num_heads, -1)


def merge(parts: list[tuple[FloatArray, NDArray[np.float32]]]) -> tuple[FloatArray, NDArray[np.float32]]:
    """One softmax from the (output, log-sum-exp) of disjoint sets of tokens: how InfLLM and RetrievalAttention join
    device and host."""
    outs, lses = (np.stack(column) for column in zip(*parts, strict=True))
    lse = np.logaddexp.reduce(lses, axis=0)
    return (np.exp(lses - lse)[..., None] * outs).sum(0), lse

"""Attention of a block of queries over what a KV store selected."""

from __future__ import annotations

import numpy as np

from reference_model.kv_store import FloatArray, IntArray, Selected, Selection

QUERY_BLOCK = 128


def attend(
    q: FloatArray, positions: IntArray, selection: Selected, window: int, keep_weights: bool
) -> tuple[FloatArray, FloatArray | None]:
    """softmax(q k') v over the keys that each query sees.

    A query sees the keys that are no later than itself and, with window > 0, at most window - 1 positions back.

    q            float32 [T, q_heads, head_dim], scaled
    positions    int [T], ascending
    -> [T, q_heads, head_dim], and the weights [q_heads, T, S] if keep_weights

    Queries go in blocks, so that a long prompt does not need the whole [q_heads, T, S] at once."""
    num_queries, num_heads, _ = q.shape
    num_slots = selection.k.shape[1]
    if keep_weights and not window and num_queries <= QUERY_BLOCK:  # nothing to narrow, so the weights need no copy
        return _attend_block(q, positions, selection, window)
    out = np.empty_like(q)
    kept = np.zeros((num_heads, num_queries, num_slots), np.float32) if keep_weights else None
    for start in range(0, num_queries, QUERY_BLOCK):
        block = slice(start, min(start + QUERY_BLOCK, num_queries))
        seen = _slots_in_reach(positions[block], selection, window)
        out[block], weights = _attend_block(q[block], positions[block], _narrowed(selection, seen), window)
        if kept is not None:
            kept[:, block, seen] = weights
    return out, kept


def _attend_block(
    q: FloatArray, positions: IntArray, selection: Selected, window: int
) -> tuple[FloatArray, FloatArray]:
    num_queries, num_heads, dim = q.shape
    kv_heads, num_slots, _ = selection.k.shape
    grouped = (
        q.reshape(num_queries, kv_heads, -1, dim).transpose(1, 2, 0, 3).reshape(kv_heads, -1, dim)
    )  # [kv, group * T, dim]
    scores: FloatArray = grouped @ selection.k.swapaxes(1, 2)  # [kv, group * T, S]
    weights: FloatArray = scores.reshape(kv_heads, -1, num_queries, num_slots)  # [kv, group, T, S]
    hidden = _hidden(positions, selection, window)  # [1 or kv, 1, T, S]
    if hidden.any():
        np.copyto(weights, -np.inf, where=hidden)
    weights -= weights.max(-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(-1, keepdims=True)
    mixed: FloatArray = scores @ selection.v  # `weights` is a view of `scores`: [kv, group * T, dim]
    out: FloatArray = (
        mixed.reshape(kv_heads, -1, num_queries, dim).transpose(2, 0, 1, 3).reshape(num_queries, num_heads, dim)
    )
    return out, weights.reshape(num_heads, num_queries, num_slots)


def _slots_in_reach(positions: IntArray, selection: Selected, window: int) -> slice:
    """The slots that any of these queries can see, where all heads share ascending positions; else all slots."""
    slots = selection.positions
    if slots.ndim != 1 or selection.valid is not None:
        return slice(0, slots.shape[-1])
    first = int(np.searchsorted(slots, positions[0] - window + 1)) if window else 0
    return slice(first, int(np.searchsorted(slots, positions[-1] + 1)))


def _narrowed(selection: Selected, seen: slice) -> Selected:
    valid = None if selection.valid is None else selection.valid[..., seen]
    return Selection(selection.k[:, seen], selection.v[:, seen], selection.positions[..., seen], valid)


def _hidden(positions: IntArray, selection: Selected, window: int) -> np.ndarray:
    """Which slots each query must not see: bool [1 or kv_heads, 1, T, S]."""
    slots = np.atleast_2d(selection.positions)[:, None, None, :]
    queries = positions[:, None]
    hidden = slots > queries
    if window:
        hidden |= slots <= queries - window
    if selection.valid is not None:
        hidden |= ~np.atleast_2d(selection.valid)[:, None, None, :]
    return hidden

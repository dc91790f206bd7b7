"""Attention of a block of queries over what a KV store selected."""

from __future__ import annotations

import numpy as np

from reference_model.kv_store import FloatArray, IntArray, Selected, Selection

QUERY_BLOCK = 64
"""Queries at a time: the scores of one KV head stay in the cache."""
FEW_ROWS = 16


def attend(
    q: FloatArray, positions: IntArray, selection: Selected, window: int, keep_weights: bool
) -> tuple[FloatArray, FloatArray | None]:
    """softmax(q k') v over the keys that each query sees.

    A query sees the keys that are no later than itself and, with window > 0, at most window - 1 positions back.

    q            float32 [T, q_heads, head_dim], scaled
    positions    int [T], ascending
    -> [T, q_heads, head_dim], and the weights [q_heads, T, S] if keep_weights"""
    num_queries, num_heads, dim = q.shape
    kv_heads, num_slots, _ = selection.k.shape
    grouped = q.reshape(num_queries, kv_heads, -1, dim).transpose(1, 2, 0, 3)  # [kv, group, T, dim]
    out = np.empty(q.shape, np.float32)
    mixed = out.reshape(num_queries, kv_heads, -1, dim).transpose(1, 2, 0, 3)  # a view of `out`, as grouped
    kept = np.zeros((*grouped.shape[:3], num_slots), np.float32) if keep_weights else None
    together = kv_heads if num_queries < QUERY_BLOCK else 1
    for start in range(0, num_queries, QUERY_BLOCK):
        block = slice(start, min(start + QUERY_BLOCK, num_queries))
        seen = _slots_in_reach(positions[block], selection, window)
        for first in range(0, kv_heads, together):
            heads = slice(first, first + together)
            reached = _narrowed(selection, heads, seen)
            mixed[heads, :, block], weights, total = _attend_block(
                grouped[heads, :, block], positions[block], reached, window
            )
            if kept is not None:
                np.divide(weights, total, out=kept[heads, :, block, seen])
    return out, None if kept is None else kept.reshape(num_heads, num_queries, num_slots)


def _attend_block(
    q: FloatArray, positions: IntArray, selection: Selected, window: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """q [kv, group, T, dim] -> [kv, group, T, dim], weights [kv, group, T, S] and their sums [kv, group, T, 1]."""
    kv_heads, group, num_queries, dim = q.shape
    scores = _scores(q.reshape(kv_heads, group * num_queries, dim), selection.k)  # [kv, group * T, S]
    weights = scores.reshape(kv_heads, group, num_queries, -1)
    _hide(weights, positions, selection, window)
    weights -= weights.max(-1, keepdims=True)
    np.exp(weights, out=weights)
    total: FloatArray = weights.sum(-1, keepdims=True)
    mixed = (scores @ selection.v).reshape(q.shape)  # `weights` is a view of `scores`
    mixed /= total
    return mixed, weights, total


def _scores(q: FloatArray, k: FloatArray) -> FloatArray:
    """q k', [kv, M, S]. BLAS multiplies k by few queries at its best when there are 4, 8 .. of them."""
    num_rows = q.shape[1]
    if num_rows > FEW_ROWS:
        return q @ k.swapaxes(-1, -2)
    turned = np.zeros((len(q), q.shape[2], -(-num_rows // 4) * 4), np.float32)
    turned[..., :num_rows] = q.swapaxes(-1, -2)
    return np.ascontiguousarray((k @ turned)[..., :num_rows].swapaxes(-1, -2))


def _slots_in_reach(positions: IntArray, selection: Selected, window: int) -> slice:
    """The slots that any of these queries can see, where all heads share ascending positions; else all slots."""
    slots = selection.positions
    if slots.ndim != 1 or selection.valid is not None:
        return slice(0, slots.shape[-1])
    first = int(np.searchsorted(slots, positions[0] - window + 1)) if window else 0
    return slice(first, int(np.searchsorted(slots, positions[-1] + 1)))


def _narrowed(selection: Selected, heads: slice, seen: slice) -> Selection:
    """These heads and slots of a selection."""
    positions, valid = selection.positions, selection.valid
    positions = positions[seen] if positions.ndim == 1 else positions[heads, seen]
    if valid is not None:
        valid = valid[seen] if valid.ndim == 1 else valid[heads, seen]
    return Selection(selection.k[heads, seen], selection.v[heads, seen], positions, valid)


def _hide(weights: FloatArray, positions: IntArray, selection: Selected, window: int) -> None:
    """Makes the scores [kv, group, T, S] of slots that a query must not see -inf."""
    slots, valid = selection.positions, selection.valid
    first = 0
    if slots.ndim == 1 and valid is None and not window:  # all queries see the slots up to the first one's
        first = int(np.searchsorted(slots, positions[0] + 1))
        if first == len(slots):
            return
    slots = np.atleast_2d(slots)[:, None, None, first:]
    queries = positions[:, None]
    hidden = slots > queries  # [1 or kv, 1, T, S]
    if window:
        hidden |= slots <= queries - window
    if valid is not None:
        hidden |= ~np.atleast_2d(valid)[:, None, None, first:]
    np.copyto(weights[..., first:], -np.inf, where=hidden)

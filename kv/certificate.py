"""What a step provably lost: bounds from page boxes on the softmax mass and the output that pruning left out.

Nothing here needs a key that was not read: Quest's bounds are computed anyway, and the kept part's log-sum-exp comes
out of attention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kv.selection import BoolArray, FloatArray

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Certificate:
    """Of one layer and step, for each query head.

    lost_mass       float64 [q_heads]: at most this share of the dense softmax lies on pages that were left out
    output_error    float64 [q_heads]: the output differs from the dense one by at most this, in Euclidean norm
    surely_right    int [q_heads]: chosen pages that are provably among the best of their number by largest q.k
    """

    lost_mass: Float64Array
    output_error: Float64Array
    surely_right: NDArray[np.int64]


def certify(
    upper: FloatArray,
    lower: FloatArray,
    kept: BoolArray,
    page_tokens: NDArray[np.int64],
    kept_lse: FloatArray,
    head_dim: int,
    max_value_norm: float,
) -> Certificate:
    """Bound the loss of attending only to `kept` pages.

    upper, lower    bounds of q.k in each page, [q_heads, pages], not divided by sqrt(head_dim)
    kept            bool [q_heads, pages]
    page_tokens     tokens in each page, int [pages]
    kept_lse        log-sum-exp of the scaled scores over the kept tokens, [q_heads]
    max_value_norm  largest Euclidean norm of any value in reach

    With Z the kept and B the bounded left-out sum of exponentials, the lost mass is at most B / (Z + B), since each
    left-out token weighs at most exp(upper); the output moves by at most twice that times the largest value, since it
    is a convex combination."""
    slack = 1 + 1e-5  # the bounds and the kept sum were computed in float32
    scaled = upper.astype(np.float64) / np.sqrt(head_dim)
    scaled += np.abs(scaled).max(initial=0) * (slack - 1)
    left_out = np.where(kept, -np.inf, scaled + np.log(np.maximum(page_tokens, 1)))
    log_dropped = np.logaddexp.reduce(left_out, axis=1)
    lost = 1 / (1 + np.exp(np.minimum(kept_lse - log_dropped, 700)))
    lost[np.isneginf(log_dropped)] = 0
    return Certificate(lost, 2 * lost * max_value_norm, _surely_right(upper, lower, kept))


def _surely_right(upper: FloatArray, lower: FloatArray, kept: BoolArray) -> NDArray[np.int64]:
    """Kept pages whose lower bound fewer than K other pages can reach, K being the number kept."""
    others = np.empty(upper.shape, np.int64)
    for head, bounds in enumerate(upper):
        ranked = np.sort(bounds)
        reaching = len(bounds) - np.searchsorted(ranked, lower[head], side="left")
        others[head] = reaching - (bounds >= lower[head])
    sure: NDArray[np.int64] = (kept & (others < kept.sum(1, keepdims=True))).sum(1)
    return sure

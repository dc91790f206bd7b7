"""Measures of how far a pruned run is from the dense one, and of how well a run predicts a text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kv.arrays import Float64Array
from kv.errors import KVError


def log_softmax(logits: NDArray[np.floating]) -> Float64Array:
    """Log probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: Float64Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def kl_divergence(dense: NDArray[np.floating], pruned: NDArray[np.floating]) -> Float64Array:
    """KL(dense || pruned) in nats, at least 0, of the next-token distributions of logits [..., vocabulary]. Raises
    KVError for different shapes."""
    if dense.shape != pruned.shape:
        raise KVError(
            f"logits of shapes {dense.shape} and {pruned.shape} cannot be compared: they must be of the same "
            "tokens and vocabulary"
        )
    ours, theirs = log_softmax(dense), log_softmax(pruned)
    result: Float64Array = np.maximum((np.exp(ours) * (ours - theirs)).sum(-1), 0)
    return result


def perplexity(logits: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """exp of the mean negative log probability of targets [T] with logits [T, vocabulary], where logits[t] predict
    targets[t]. Raises KVError if the lengths differ or are 0."""
    if logits.shape[:1] != targets.shape or not len(targets):
        raise KVError(
            f"{len(logits)} rows of logits do not predict {len(targets)} targets: one row for each of at "
            "least one target"
        )
    return float(np.exp(-np.take_along_axis(log_softmax(logits), targets[:, None], 1).mean()))

"""Measures of the difference between two sets of logits, with regard to choosing and ranking tokens.

Every function takes a target and a reference of the same shape (..., vocabulary) and averages over the leading axes.
A row that holds NaN agrees with nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from golden.errors import GoldenError
from golden.values import Array, as_float64

Rows = npt.NDArray[np.float64]


def argmax_agreement(target: Array, reference: Array) -> float:
    """Share of rows, 0 to 1, whose largest logit is at the same index. The lowest index wins a tie."""
    t, r = _rows(target, reference)
    return float(np.mean((t.argmax(axis=1) == r.argmax(axis=1)) & ~_has_nan(t, r)))


def top_k_overlap(target: Array, reference: Array, k: int) -> float:
    """Mean share, 0 to 1, of the reference's k largest logits that are among the target's k largest.

    The lowest indices win ties. Raises GoldenError unless 1 <= k <= vocabulary."""
    t, r = _rows(target, reference)
    if not 1 <= k <= t.shape[1]:
        raise GoldenError(f"k is {k}: it must be from 1 to the number of logits, {t.shape[1]}")
    target_top, reference_top = _top(t, k), _top(r, k)
    shared = (target_top[:, :, None] == reference_top[:, None, :]).any(axis=1).mean(axis=1)
    return float(np.mean(np.where(_has_nan(t, r), 0.0, shared)))


def kl_divergence(target: Array, reference: Array) -> float:
    """Mean Kullback-Leibler divergence of the target's softmax from the reference's, in nats.

    It is sum p_ref (log p_ref - log p_target): 0 if both distributions are equal, infinity if the target excludes a
    token that the reference allows, NaN if a row holds NaN or +infinity."""
    t, r = _rows(target, reference)
    log_t, log_r = _log_softmax(t), _log_softmax(r)
    p = np.exp(log_r)
    with np.errstate(invalid="ignore"):
        terms = np.where(p == 0, 0.0, p * (log_r - log_t))
    terms[_has_nan(log_t, log_r)] = np.nan
    return float(np.mean(np.maximum(terms.sum(axis=1), 0.0)))  # rounding may leave -1e-17


def _rows(target: Array, reference: Array) -> tuple[Rows, Rows]:
    if target.shape != reference.shape or target.ndim == 0 or target.size == 0:
        raise GoldenError(
            f"logits have shapes {target.shape} and {reference.shape}: both must have one shape (..., "
            "vocabulary), not empty"
        )
    rows = (-1, target.shape[-1])
    return as_float64(target).reshape(rows), as_float64(reference).reshape(rows)


def _has_nan(t: Rows, r: Rows) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isnan(t).any(axis=1) | np.isnan(r).any(axis=1))


def _top(rows: Rows, k: int) -> npt.NDArray[np.intp]:
    return np.argsort(-rows, axis=1, kind="stable")[:, :k]


def _log_softmax(rows: Rows) -> Rows:
    with np.errstate(invalid="ignore"):
        shifted = rows - rows.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

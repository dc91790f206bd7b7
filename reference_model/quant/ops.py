"""The parts of a decoder layer, each as the sequence of chip operations that a kernel issues.

These functions are the specification of the kernels: a kernel returns the same bits. All arrays are uint16 bf16
patterns. T is the number of tokens, G the query heads that share a KV head, S the slots attended to."""

from __future__ import annotations

from functools import cache

import numpy as np

from reference_model.quant.arith import (
    F32,
    Patterns,
    add,
    mac,
    matmul,
    matmul_float,
    maximum,
    minimum,
    mul,
    pattern,
    patterns,
    row_dot,
    row_max,
    row_sum,
    sub,
)
from reference_model.quant.products import Numbers
from reference_model.quant.tables import (
    exp_table,
    gelu_gate_table,
    interpolate,
    reciprocal_table,
    rsqrt_table,
    scientific,
    sigmoid_table,
)

__all__ = [
    "MASKED", "add", "attention", "attention_weights", "box_update", "exp", "gelu_tanh", "mac", "matmul",
    "matmul_float",
    "maximum", "minimum", "mul", "page_scores", "reciprocal", "rms_norm", "rms_norm_constants", "rope", "rope_rows",
    "row_dot", "row_max",
    "row_sum", "rsqrt", "silu", "softmax", "sub",
]  # fmt: skip

MASKED = pattern(-32768.0)
"""What a mask adds to the score of a slot that must not be seen; exp makes exactly 0 of it."""

ZERO = np.uint16(0)


@cache
def _every(name: str) -> Patterns:
    """A function of one operand as a table over all 65,536 patterns.

    The table is computed once, by the function's sequence of operations."""
    every = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    return {
        "exp": lambda: interpolate(exp_table(), every),
        "sigmoid": lambda: interpolate(sigmoid_table(), every),
        "gelu_gate": lambda: interpolate(gelu_gate_table(), every),
        "reciprocal": lambda: scientific(reciprocal_table(), every),
        "rsqrt": lambda: scientific(rsqrt_table(), every),
    }[name]()


def exp(x: Patterns) -> Patterns:
    """exp(x) for x <= 0 by the interpolating exp_table."""
    return _every("exp").take(x)


def reciprocal(x: Patterns) -> Patterns:
    """1 / x for 2^-63 <= x < 2^65 by the scientific reciprocal_table."""
    return _every("reciprocal").take(x)


def rsqrt(x: Patterns) -> Patterns:
    """x ** -1/2 for 2^-63 <= x < 2^65 by the scientific rsqrt_table."""
    return _every("rsqrt").take(x)


def silu(x: Patterns) -> Patterns:
    """x * sigmoid(x): the interpolating sigmoid_table, then tiu_mul."""
    return mul(x, _every("sigmoid").take(x))


def gelu_tanh(x: Patterns) -> Patterns:
    """x * gate(x): the interpolating gelu_gate_table, then tiu_mul."""
    return mul(x, _every("gelu_gate").take(x))


def rms_norm_constants(gain: F32, eps: float) -> tuple[Patterns, np.uint16]:
    """What rms_norm takes for float32 `gain` [d]: gain * sqrt(d), rounded once, and eps * d.

    The mean is never formed: x / sqrt(sum / d + eps) * gain = x / sqrt(sum + eps d) * (gain sqrt(d)), and 1 / d is
    not a bf16 number."""
    d = gain.shape[-1]
    return patterns(gain * np.float32(np.sqrt(d))), pattern(eps * d)


def rms_norm(x: Patterns, gain: Patterns, eps: np.uint16) -> Patterns:
    """RMSNorm over the rows of x [T, d] with the constants of rms_norm_constants.

    Operations: row_dot, add, rsqrt table, mul, mul."""
    scale = rsqrt(add(row_dot(x, x), eps))  # [T, 1]
    return mul(mul(x, scale), gain)


def rope_rows(positions: np.ndarray, head_dim: int, theta: float) -> tuple[Patterns, Patterns]:
    """The table in GMEM: (cos, sin) rows [T, head_dim] of each position, for `rope`.

    The first half of sin is negated."""
    frequencies = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    angles = np.asarray(positions, np.float64)[:, None] * frequencies
    cos, sin = np.cos(angles), np.sin(angles)
    return patterns(np.concatenate([cos, cos], -1).astype(np.float32)), patterns(
        np.concatenate([-sin, sin], -1).astype(np.float32)
    )


def rope(x: Patterns, cos: Patterns, sin: Patterns) -> Patterns:
    """x [T, heads, head_dim] rotated by rows [T, head_dim] of rope_rows, in pairs (i, i + head_dim / 2).

    Operations: mul, then mac on swapped halves."""
    half = x.shape[-1] // 2
    swapped = np.concatenate([x[..., half:], x[..., :half]], -1)
    return mac(mul(x, cos[:, None]), swapped, sin[:, None])


def softmax(scores: Patterns) -> tuple[Patterns, Patterns]:
    """exp(scores - row maximum) [M, S] and the reciprocal of its sum [M, 1]. Their product is the softmax.

    Operations: max pooling, sub, exp table, row_sum, reciprocal table."""
    weights = exp(sub(scores, row_max(scores)))
    return weights, reciprocal(row_sum(weights))


def attention_weights(q: Patterns, k: Patterns | Numbers, mask: Patterns | None) -> tuple[Patterns, Patterns]:
    """The softmax of q k^T + mask, as `softmax` gives it: [M, S], and the factor of each row [M, 1]."""
    scores = matmul(q, k.swapaxes(-1, -2))
    return softmax(scores if mask is None else add(scores, mask))


def attention(q: Patterns, k: Patterns | Numbers, v: Patterns | Numbers, mask: Patterns | None) -> Patterns:
    """One KV head and its group of query heads: [M, d].

    q is [M, d] (scaled), k and v [S, d], mask [M or 1, S] of 0 and MASKED. M is G times the number of tokens. Sums
    over slots run in ascending order, and masked slots weigh exactly 0, so padding changes no bit. A mask of zeros
    changes nothing either, and may be left out. With an axis in front of all it is several KV heads at once."""
    weights, scale = attention_weights(q, k, mask)
    return mul(matmul(weights, v), scale)


def box_update(box: tuple[Patterns, Patterns], k: Patterns) -> tuple[Patterns, Patterns]:
    """(max, min) [d] of a page's keys, with one more key k [d]."""
    return maximum(box[0], k), minimum(box[1], k)


def page_scores(q: Patterns, largest: Patterns, smallest: Patterns) -> F32:
    """Quest's bound on q.k over each page (arXiv:2406.10774, section 3.3): float32 [G, pages].

    q is [G, d], boxes are [d, pages]. It is one product of (max(q, 0), min(q, 0)) [G, 2 d] with (largest, smallest)
    [2 d, pages], left in float32 (ps32) for the host."""
    left = np.concatenate([maximum(q, ZERO), minimum(q, ZERO)], -1)
    return matmul_float(left, np.concatenate([largest, smallest]))

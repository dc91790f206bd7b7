"""The arithmetic of a decoder layer, float32 throughout. T is the number of tokens, d the hidden size."""

from __future__ import annotations

import numpy as np

from reference_model.kv_store import FloatArray, IntArray

FEW_ROWS = 32
"""Up to so many rows, BLAS gets the weight in blocks, which is faster by up to four times."""
BLOCK = 64
"""Rows of the weight in a block: with them in the cache, BLAS reads the weight from memory once."""


def linear(x: FloatArray, weight: FloatArray) -> FloatArray:
    """x [T, in] times the transpose of weight [out, in], as a model's files hold it -> [T, out], summed in float32."""
    if len(x) == 1:
        return (weight @ x[0])[None]
    if len(x) > FEW_ROWS or not len(x):
        return x @ weight.T
    columns, whole = np.ascontiguousarray(x.T), len(weight) - len(weight) % BLOCK
    out = np.empty((len(weight), len(x)), np.float32)
    np.matmul(weight[:whole].reshape(-1, BLOCK, weight.shape[1]), columns, out=out[:whole].reshape(-1, BLOCK, len(x)))
    np.matmul(weight[whole:], columns, out=out[whole:])
    return np.ascontiguousarray(out.T)


def rms_norm(x: FloatArray, gain: FloatArray, eps: float) -> FloatArray:
    """x [..., d] divided by the root of its mean square, times gain [d] (arXiv:1910.07467)."""
    root: FloatArray = np.einsum("...i,...i->...", x, x)[..., None]
    root /= np.float32(x.shape[-1])
    root += np.float32(eps)
    np.sqrt(root, out=root)
    out: FloatArray = x / root
    out *= gain
    return out


def silu(x: FloatArray) -> FloatArray:
    """x * sigmoid(x), in place."""
    divisor = np.maximum(x, -80)  # exp overflows beyond 88, where the sigmoid is zero anyway
    np.negative(divisor, out=divisor)
    np.exp(divisor, out=divisor)
    divisor += 1
    x /= divisor
    return x


def gelu_tanh(x: FloatArray) -> FloatArray:
    """GELU by its tanh approximation (arXiv:1606.08415, section 2), in place."""
    inner = np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x))
    x *= 0.5 * (1 + inner)
    return x


def rope_table(positions: IntArray, head_dim: int, theta: float) -> tuple[FloatArray, FloatArray]:
    """cos, sin [T, 1, head_dim / 2] of position * theta ** (-2i / head_dim) (arXiv:2104.09864)."""
    frequencies = 1.0 / np.float32(theta) ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    angles = positions.astype(np.float32)[:, None, None] * frequencies.astype(np.float32)
    return np.cos(angles), np.sin(angles)


def rotate(x: FloatArray, cos: FloatArray, sin: FloatArray, interleaved: bool) -> FloatArray:
    """RoPE on x [T, heads, head_dim]: the pairs are (2i, 2i + 1) when interleaved, else (i, i + head_dim / 2)."""
    half = x.shape[-1] // 2
    first, second = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(half), slice(half, None))
    turned = np.empty_like(x)
    turned[..., first] = x[..., first] * cos - x[..., second] * sin
    turned[..., second] = x[..., second] * cos + x[..., first] * sin
    return turned

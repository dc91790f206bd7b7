"""The arithmetic of a decoder layer, float32 throughout. T is the number of tokens, d the hidden size."""

from __future__ import annotations

import numpy as np

from reference_model.kv_store import FloatArray, IntArray


def rms_norm(x: FloatArray, gain: FloatArray, eps: float) -> FloatArray:
    """x [..., d] divided by the root of its mean square, times gain [d] (arXiv:1910.07467)."""
    squares = np.einsum("...d,...d->...", x, x)[..., None]
    return x * (1 / np.sqrt(squares / np.float32(x.shape[-1]) + np.float32(eps))) * gain


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

"""The layers of a Llama with their derivatives. Each forward returns what its backward needs.

All arrays have the parameters' dtype. Backward formulas are the ordinary chain rule;
tests/reference_model/test_gradients.py compares them with finite differences in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def rms_norm_forward(x: Array, gain: Array, eps: float) -> tuple[Array, Array]:
    """x [N, d] and gain [d] -> normalised [N, d], and 1 / rms [N, 1]."""
    inverse = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return x * inverse * gain, inverse.astype(x.dtype, copy=False)


def rms_norm_backward(dy: Array, x: Array, gain: Array, inverse: Array) -> tuple[Array, Array]:
    """dx [N, d] and dgain [d]."""
    unit = x * inverse
    dunit = dy * gain
    dgain = np.einsum("nd,nd->d", dy, unit)
    unit *= (dunit * unit).mean(-1, keepdims=True)
    dunit -= unit
    dunit *= inverse
    return dunit, dgain


def linear_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """dx [N, in] and dweight [out, in] of y = x @ weight.T, with x [N, in] and weight [out, in]."""
    return dy @ weight, dy.T @ x


def swiglu_forward(gate: Array, up: Array) -> tuple[Array, Array]:
    """silu(gate) * up, and sigmoid(gate)."""
    sigmoid = 1 / (1 + np.exp(-gate))
    return gate * sigmoid * up, sigmoid


def swiglu_backward(dy: Array, gate: Array, up: Array, sigmoid: Array) -> tuple[Array, Array]:
    """dgate and dup."""
    silu = gate * sigmoid
    dgate = (1 - sigmoid) * silu
    dgate += sigmoid
    dgate *= up
    dgate *= dy
    return dgate, dy * silu


def rotate_halves(x: Array, cos: Array, sin: Array) -> Array:
    """RoPE on x [B, T, heads, head_dim] with cos, sin [T, 1, head_dim / 2].

    Its transpose (the backward) is the same with -sin."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    turned = np.empty_like(x)
    turned[..., :half] = first * cos - second * sin
    turned[..., half:] = second * cos + first * sin
    return turned


def cross_entropy(logits: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """The sum of weights * -log p(target), and its derivative by the logits [N, V].

    logits are [N, V], targets int [N], weights [N]."""
    rows = np.arange(len(targets))
    shifted = logits - logits.max(-1, keepdims=True)
    picked = shifted[rows, targets]
    probabilities = np.exp(shifted, out=shifted)
    sums = probabilities.sum(-1)
    loss = float((weights * (np.log(sums) - picked)).sum())
    probabilities *= (weights / sums)[:, None]
    probabilities[rows, targets] -= weights
    return loss, probabilities

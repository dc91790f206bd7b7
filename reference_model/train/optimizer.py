"""AdamW (arXiv:1711.05101), the learning-rate schedule and gradient clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reference_model.train.network import Params


@dataclass(frozen=True)
class AdamW:
    """AdamW's constants. Decay applies to matrices, not to the gains of norms."""

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1

    def update(
        self, params: Params, grads: Params, first: Params, second: Params, *, learning_rate: float, step: int
    ) -> None:
        """One step, in place. `first` and `second` are the running moments; `step` counts from 1."""
        correction1, correction2 = 1 - self.beta1**step, 1 - self.beta2**step
        for name, value in params.items():
            grad, mean, square = grads[name], first[name], second[name]
            mean += (1 - self.beta1) * (grad - mean)
            square += (1 - self.beta2) * (grad * grad - square)
            if value.ndim == 2:
                value *= 1 - learning_rate * self.weight_decay
            value -= learning_rate / correction1 * mean / (np.sqrt(square / correction2) + self.eps)


def learning_rate_at(step: int, num_steps: int, peak: float, warmup: int, floor: float = 0.05) -> float:
    """Linear warm-up to `peak` over `warmup` steps, then half a cosine down to floor * peak at num_steps.

    `step` counts from 1."""
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def clip_gradients(grads: Params, max_norm: float) -> float:
    """Scales all gradients, in place, so that their joint Euclidean norm is at most max_norm.

    Returns the norm before."""
    norm = math.sqrt(sum(float(np.vdot(grad, grad)) for grad in grads.values()))
    if norm > max_norm:
        for grad in grads.values():
            grad *= max_norm / norm
    return norm

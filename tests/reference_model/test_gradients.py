"""The hand-written backward pass against central differences in float64."""

from __future__ import annotations

import numpy as np
import pytest

from reference_model.config import ModelConfig
from reference_model.train import attention
from reference_model.train.network import Batch, initial_params, loss_and_gradients, loss_only

TINY = ModelConfig(
    vocab_size=11,
    hidden_size=12,
    intermediate_size=10,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    context_length=16,
)


def tiny_problem() -> tuple[dict[str, np.ndarray], Batch]:
    rng = np.random.default_rng(7)
    params = initial_params(TINY, seed=3, dtype=np.float64)
    for (
        name,
        value,
    ) in params.items():  # larger than at the start of a training, so that no term of the derivative vanishes
        params[name] = value * 10 if value.ndim == 2 else value + rng.normal(0, 0.2, value.shape)
    tokens = rng.integers(0, 11, (2, 13))
    return params, Batch(tokens[:, :-1], tokens[:, 1:], rng.uniform(0, 2, (2, 12)))


@pytest.mark.parametrize("name", list(initial_params(TINY, 0)))
@pytest.mark.parametrize("query_block", [5, 128])
def test_gradient_of_every_parameter_equals_finite_differences(
    name: str, query_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", query_block)
    params, batch = tiny_problem()
    _, grads = loss_and_gradients(params, TINY, batch)
    rng = np.random.default_rng(1)
    for index in rng.choice(params[name].size, min(8, params[name].size), replace=False):
        place = np.unravel_index(index, params[name].shape)
        original, losses = params[name][place], []
        for step in (1e-5, -1e-5):
            params[name][place] = original + step
            losses.append(loss_only(params, TINY, batch))
        params[name][place] = original
        assert grads[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6, abs=1e-7)


def test_gradients_of_micro_batches_add_up_to_those_of_the_batch() -> None:
    params, batch = tiny_problem()
    loss, grads = loss_and_gradients(params, TINY, batch)
    halves = [loss_and_gradients(params, TINY, Batch(*(part[row : row + 1] for part in batch))) for row in range(2)]
    assert loss == pytest.approx(sum(half[0] for half in halves), rel=1e-12)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, halves[0][1][name] + halves[1][1][name], rtol=1e-9, atol=1e-12)

"""Compares a run on the chip with the float model: logits after the same tokens, and the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden.logits import argmax_agreement, kl_divergence
from npusim.llm.generation import Generation
from npusim.llm.pages import FloatArray
from reference_model.model import Model
from reference_model.quant.compare import LayerError, compare_layers


@dataclass(frozen=True)
class Agreement:
    """Agreement with the float model over all generated tokens: the share (0 to 1) for which the likeliest token is the
    same, and the mean KL divergence in nats."""

    argmax: float
    kl: float


def agreement(model: Model, prompt: Sequence[int], tokens: Sequence[int], logits: Sequence[FloatArray]) -> Agreement:
    """The agreement of `logits` with `model` on the same tokens. tokens[i], which follow `prompt`, was chosen from
    logits[i], float32 [vocab]."""
    ids = [*prompt, *tokens[: len(logits) - 1]]
    hidden = model.hidden(ids)[len(prompt) - 1 :]
    reference = model.head(hidden)
    target = np.stack(logits)
    return Agreement(float(argmax_agreement(target, reference)), float(kl_divergence(target, reference)))


def residual_streams(run: Generation) -> list[FloatArray]:
    """The residual stream before each layer and after the last, as layers + 1 arrays [tokens, hidden], for the prompt
    fed token by token. `run` must be lowered with by_layer."""
    streams: list[list[FloatArray]] = [[] for _ in range(run.lowered.config.num_layers + 1)]
    session = run.session()
    session.driver.watch = lambda index, x: streams[index].append(x)
    for token in run.prompt:
        session.decode(token)
    return [np.stack(rows) for rows in streams]


def layer_errors(model: Model, run: Generation) -> list[LayerError]:
    """Each layer's error on the chip against the float model over the prompt, in dB: accumulated ("entire"), and of the
    layer alone ("single"). `run` must be lowered with by_layer."""
    return compare_layers(model, run.prompt, residual_streams(run))

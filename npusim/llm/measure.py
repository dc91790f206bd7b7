"""What a run on the chip is held against: the float model's logits after the same tokens, and its residual stream."""

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
    """Over all generated tokens: how often the likeliest token is the same, and the mean KL divergence from the float
    model, in nats."""

    argmax: float
    kl: float


def agreement(model: Model, prompt: Sequence[int], tokens: Sequence[int], logits: Sequence[FloatArray]) -> Agreement:
    """`logits` [len(tokens)] of [vocab]: those that each of `tokens` was chosen from, behind `prompt`."""
    ids = [*prompt, *tokens[: len(logits) - 1]]
    hidden = model.hidden(ids)[len(prompt) - 1 :]
    reference = model.head(hidden)
    target = np.stack(logits)
    return Agreement(float(argmax_agreement(target, reference)), float(kl_divergence(target, reference)))


def residual_streams(run: Generation) -> list[FloatArray]:
    """The prompt token by token through a lowering by layers: the stream in front of each layer and behind the last, [L
    + 1] of [T, d]."""
    streams: list[list[FloatArray]] = [[] for _ in range(run.lowered.config.num_layers + 1)]
    session = run.session()
    session.watch = lambda index, x: streams[index].append(x)
    for token in run.prompt:
        session.decode(token)
    return [np.stack(rows) for rows in streams]


def layer_errors(model: Model, run: Generation) -> list[LayerError]:
    """Each layer's accumulated ("entire") and own ("single") error on the chip against the float model, in dB, over the
    prompt."""
    return compare_layers(model, run.prompt, residual_streams(run))

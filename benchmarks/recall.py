"""How far back the bundled model looks up planted key-value records, and how well it predicts the text between them.

Prompts fill the model's context with passages of held-out text and eight records ` [ key value ]`; the last tokens ask
for one of them, and the likeliest next token is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import reference_model
from benchmarks.claim import Say
from reference_model import Model
from reference_model.train.evaluate import recall_at

DISTANCES, TRIALS = (16, 64, 256, 512, 768, 900), 50
HELD_OUT = Path(__file__).parents[1] / "tests" / "reference_model" / "data" / "held_out.txt"


def far(say: Say) -> float:
    """Percent of the values that are recalled over the longest distance."""
    model, ids = model_and_text()
    share = 0.0
    for distance in DISTANCES:
        share = recall_at(model, ids, distance, model.config.context_length, TRIALS)
        say(f"distance {distance:>4}: {share:.0%} of {TRIALS} values recalled")
    return 100 * share


def text(say: Say) -> float:
    """Nats a token of held-out text."""
    model, ids = model_and_text()
    loss = mean_loss(model, ids)
    say(f"{HELD_OUT.name}: {loss:.3f} nats a token over {len(ids):,}")
    return loss


def model_and_text() -> tuple[Model, NDArray[np.int64]]:
    model = reference_model.load("builtin")
    return model, np.array(model.tokenizer.encode(HELD_OUT.read_text(encoding="utf-8")))


def mean_loss(model: Model, ids: NDArray[np.int64]) -> float:
    """Nats a token, in windows of the context."""
    losses = []
    for start in range(0, len(ids) - 1, model.config.context_length):
        window = ids[start : start + model.config.context_length + 1]
        logits = model.forward(window[:-1]).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        losses.append(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), window[1:]])
    return float(np.concatenate(losses).mean())

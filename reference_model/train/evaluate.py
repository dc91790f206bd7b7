"""How a trained model is measured: the loss on held-out text, and recall by distance."""

from __future__ import annotations

import numpy as np

from reference_model.config import ModelConfig
from reference_model.model import Model
from reference_model.train.corpus import Corpus
from reference_model.train.network import Params, loss_only
from reference_model.train.recall import Ids, Recall


def validation_loss(params: Params, config: ModelConfig, corpus: Corpus, max_batches: int = 16) -> float:
    """Nats per token on the held-out text, in windows of the whole context."""
    batches = corpus.validation_batches(config.context_length, 2)[:max_batches]
    return sum(loss_only(params, config, batch) for batch in batches) / sum(
        float(batch.weights.sum()) for batch in batches
    )


def recall_at(
    model: Model, text: Ids, distance: int, length: int, trials: int, *, records: int = 8, seed: int = 0
) -> float:
    """The share of planted values that the model recalls.

    It is asked for a value that stands `distance` tokens back, and its likeliest token counts.

    text      token ids to take the filler from, more than `length`
    length    tokens of each prompt; `records` records are in it, among them the one that is asked for"""
    rng = np.random.default_rng([seed, distance])
    recall = Recall.of(model.tokenizer.backend)
    right = 0
    for _ in range(trials):
        start = int(rng.integers(0, len(text) - length))
        prompt, value = recall.question(rng, text[start : start + length], length, distance, records)
        right += int(model.head(model.hidden(prompt)[-1:]).argmax() == value)
    return right / trials

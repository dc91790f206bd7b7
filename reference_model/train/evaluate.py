"""What a trained model is measured by: the loss on held-out text, and recall by distance."""

from __future__ import annotations

import numpy as np

from reference_model.config import ModelConfig
from reference_model.train.corpus import Corpus
from reference_model.train.network import Params, last_logits, loss_only


def validation_loss(params: Params, config: ModelConfig, corpus: Corpus, max_batches: int = 16) -> float:
    """Nats a token on the held-out text, in windows of the whole context."""
    batches = corpus.validation_batches(config.context_length, 2)[:max_batches]
    return sum(loss_only(params, config, batch) for batch in batches) / sum(float(batch.weights.sum()) for batch in batches)


def recall_at(
    params: Params, config: ModelConfig, corpus: Corpus, distance: int, trials: int = 64, records: int = 8, seed: int = 0
) -> float:
    """The share of planted values, `distance` tokens back, that are the likeliest next token in held-out text that fills the context."""
    rng = np.random.default_rng([seed, 2, distance])
    right = 0
    for _ in range(trials):
        start = int(rng.integers(0, len(corpus.validation) - config.context_length))
        text = corpus.validation[start : start + config.context_length]
        prompt, value = corpus.recall.question(rng, text, config.context_length, distance, records)
        right += int(last_logits(params, config, prompt[None]).argmax() == value)
    return right / trials

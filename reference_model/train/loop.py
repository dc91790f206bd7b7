"""The training run: a text file in, a directory with config.json, tokenizer.json and model.safetensors out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reference_model.config import ModelConfig
from reference_model.train.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from reference_model.train.corpus import Corpus
from reference_model.train.evaluate import validation_loss
from reference_model.train.network import Batch, Params, initial_params, loss_and_gradients
from reference_model.train.optimizer import AdamW, clip_gradients, learning_rate_at
from reference_model.train.recipe import Recipe


@dataclass(frozen=True)
class StepReport:
    """What happened in one step. Losses are nats a token; validation_loss only in the steps that measured it."""

    step: int
    num_steps: int
    context: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    validation_loss: float | None = None


def run(
    corpus: Corpus, config: ModelConfig, recipe: Recipe, directory: Path, validate_every: int = 200, save_every: int = 100
) -> Iterator[StepReport]:
    """Train, and yield a report after each step. A checkpoint in `directory` is resumed; the result has the same bits as without a stop.

    `directory`/checkpoint.safetensors holds the state, log.jsonl one line a step.
    """
    path = directory / "checkpoint.safetensors"
    params = initial_params(config, recipe.seed)
    state = load_checkpoint(path, params) if path.exists() else TrainingState.fresh(params)
    optimizer = AdamW()
    for step in range(state.step, recipe.num_steps):
        begun = time.perf_counter()
        batch = corpus.batch(recipe, step)
        loss, grads = batch_gradients(state.params, config, batch, recipe.micro_tokens)
        norm = clip_gradients(grads, recipe.max_norm)
        rate = learning_rate_at(step + 1, recipe.num_steps, recipe.peak_learning_rate, recipe.warmup)
        optimizer.update(state.params, grads, state.first, state.second, rate, step + 1)
        speed = batch.tokens.size / (time.perf_counter() - begun)
        state = TrainingState(state.params, state.first, state.second, step + 1)
        last = step + 1 == recipe.num_steps
        validation = validation_loss(state.params, config, corpus) if last or (step + 1) % validate_every == 0 else None
        report = StepReport(step + 1, recipe.num_steps, batch.tokens.shape[1], loss, rate, norm, speed, validation)
        with open(directory / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(vars(report)) + "\n")
        if last or (step + 1) % save_every == 0:
            save_checkpoint(path, state)
        yield report


def batch_gradients(params: Params, config: ModelConfig, batch: Batch, micro_tokens: int) -> tuple[float, Params]:
    """-> the mean loss by weight and its gradients, computed `micro_tokens` at a time."""
    rows = max(micro_tokens // batch.tokens.shape[1], 1)
    total_weight = batch.weights.sum()
    batch = batch._replace(weights=batch.weights / total_weight)
    loss = 0.0
    grads: Params = {}
    for at in range(0, len(batch.tokens), rows):
        part_loss, part = loss_and_gradients(params, config, Batch(*(array[at : at + rows] for array in batch)))
        loss += part_loss
        grads = {name: grads[name] + grad for name, grad in part.items()} if grads else part
    return loss, grads

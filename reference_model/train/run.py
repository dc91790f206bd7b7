"""The training run: a text file in, a directory that reference_model.load reads out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.train.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from reference_model.train.corpus import Corpus, train_tokenizer
from reference_model.train.evaluate import validation_loss
from reference_model.train.export import load_params, save_model
from reference_model.train.network import Batch, Params, initial_params, loss_and_gradients
from reference_model.train.optimizer import AdamW, clip_gradients, learning_rate_at
from reference_model.train.recipe import Recipe

VALIDATE_EVERY, SAVE_EVERY = 200, 100


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


def train(text_path: Path, directory: Path, recipe: Recipe, start: Path | None = None) -> Iterator[StepReport]:
    """Train on a text file and yield a report after each step; at the end `directory` holds a model.

    directory   config.json, tokenizer.json, model.safetensors (bfloat16); and of the run run.json, log.jsonl, checkpoint.safetensors.
                A run that was stopped is taken up again, and ends with the same bits as one that was not
    start       a directory that an earlier run made, whose tokenizer and parameters are taken over

    Raises ModelError when the text cannot be read or is too short, or when `directory` holds a run of another recipe or text.
    """
    text = _read_text(text_path)
    directory.mkdir(parents=True, exist_ok=True)
    _claim(directory, recipe, text)
    tokenizer_path = directory / "tokenizer.json"
    if not tokenizer_path.exists():
        source = (start / "tokenizer.json").read_text() if start else train_tokenizer(text, recipe.vocab_size).to_str()
        tokenizer_path.write_text(source)
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    config = recipe.config(tokenizer.get_vocab_size())
    corpus = Corpus.of(text, tokenizer, config.context_length)
    params = initial_params(config, recipe.seed)
    if start:
        params = load_params(start / "model.safetensors", params)
    checkpoint = directory / "checkpoint.safetensors"
    state = load_checkpoint(checkpoint, params) if checkpoint.exists() else TrainingState.fresh(params)
    yield from _steps(corpus, config, recipe, directory, state)
    save_model(directory, state.params, config)


def _steps(corpus: Corpus, config: ModelConfig, recipe: Recipe, directory: Path, state: TrainingState) -> Iterator[StepReport]:
    optimizer = AdamW()
    for step in range(state.step, recipe.num_steps):
        begun = time.perf_counter()
        batch = corpus.batch(recipe, step)
        loss, grads = batch_gradients(state.params, config, batch, recipe.micro_tokens)
        norm = clip_gradients(grads, recipe.max_norm)
        rate = learning_rate_at(step + 1, recipe.num_steps, recipe.peak_learning_rate, recipe.warmup)
        optimizer.update(state.params, grads, state.first, state.second, rate, step + 1)
        speed = batch.tokens.size / (time.perf_counter() - begun)
        state = dataclasses.replace(state, step=step + 1)
        last = state.step == recipe.num_steps
        validation = validation_loss(state.params, config, corpus) if last or state.step % VALIDATE_EVERY == 0 else None
        report = StepReport(state.step, recipe.num_steps, batch.tokens.shape[1], loss, rate, norm, speed, validation)
        if last or state.step % SAVE_EVERY == 0:
            save_checkpoint(directory / "checkpoint.safetensors", state)
        with open(directory / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(vars(report)) + "\n")
        yield report


def batch_gradients(params: Params, config: ModelConfig, batch: Batch, micro_tokens: int) -> tuple[float, Params]:
    """-> the mean loss by weight and its gradients, computed `micro_tokens` at a time."""
    rows = max(micro_tokens // batch.tokens.shape[1], 1)
    batch = batch._replace(weights=batch.weights / batch.weights.sum())
    loss = 0.0
    grads: Params = {}
    for at in range(0, len(batch.tokens), rows):
        part_loss, part = loss_and_gradients(params, config, Batch(*(array[at : at + rows] for array in batch)))
        loss += part_loss
        grads = {name: grads[name] + grad for name, grad in part.items()} if grads else part
    return loss, grads


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"text {path} cannot be read ({error}): give a UTF-8 text file") from None


def _claim(directory: Path, recipe: Recipe, text: str) -> None:
    """Write down what this directory's run is of, or make sure that it is the same."""
    identity = {"recipe": dataclasses.asdict(recipe), "text_sha256": hashlib.sha256(text.encode()).hexdigest()}
    written = json.dumps(identity, indent=1)
    path = directory / "run.json"
    if not path.exists():
        path.write_text(written)
    elif path.read_text() != written:
        raise ModelError(f"{directory} holds a run of another recipe or text: continue it with the same, or use an empty directory")

"""The training run: a text file in, and out comes a directory that reference_model.load reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from golden.whole import PARTIAL_SUFFIX
from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.tokenizer import from_json
from reference_model.train.checkpoint import TrainingState, load_checkpoint, save_checkpoint, saving
from reference_model.train.corpus import Corpus, train_tokenizer
from reference_model.train.evaluate import validation_loss
from reference_model.train.export import load_params, save_model
from reference_model.train.network import Batch, Params, initial_params, loss_and_gradients
from reference_model.train.optimizer import AdamW, clip_gradients, learning_rate_at
from reference_model.train.recipe import Phase, Recipe

SAVE_EVERY = 50
VALIDATIONS = 15
MAX_PARAMS = 200_000_000
MOST = 1 << 40
"""What no number of a recipe reaches; more is a damaged file."""


T = TypeVar("T", Recipe, Phase)


@dataclass(frozen=True)
class StepReport:
    """What happened in one step. Losses are nats per token; validation_loss only in the steps that measured it."""

    step: int
    num_steps: int
    context: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    validation_loss: float | None = None


@dataclass(frozen=True)
class Run:
    """A run that is ready to go on: all that it needs is read and checked."""

    corpus: Corpus
    config: ModelConfig
    recipe: Recipe
    directory: Path
    state: TrainingState

    @property
    def num_params(self) -> int:
        """Parameters of the model."""
        return sum(value.size for value in self.state.params.values())


def train(
    text_path: Path, directory: Path, recipe: Recipe, start: Path | None = None
) -> Generator[StepReport, None, None]:
    """Calls prepare, then steps."""
    yield from steps(prepare(text_path, directory, recipe, start))


def prepare(text_path: Path, directory: Path, recipe: Recipe, start: Path | None = None) -> Run:
    """A run on a text file, from its beginning or from where it was stopped.

    directory   config.json, tokenizer.json, model.safetensors (bfloat16); and, of the run, run.json, log.jsonl,
                checkpoint.safetensors. A run that was stopped is taken up again, and ends with the same bits as one
                that was not
    start       a directory of an earlier run, whose tokenizer and parameters are taken over

    Raises ModelError when the text cannot be read or is too short, or when `directory` cannot be written or holds a run
    of another recipe or text. Nothing is written then."""
    text = read_text(text_path)
    identity = _identity(directory, recipe, text)
    tokenizer_path = directory / "tokenizer.json"
    known = next(
        (path for path in (tokenizer_path, start and start / "tokenizer.json") if path and path.exists()), None
    )
    tokenizer = from_json(known) if known else train_tokenizer(text, recipe.vocab_size, recipe.has_recall)
    config = recipe.config(tokenizer.get_vocab_size())
    corpus = Corpus.of(text, tokenizer, config.context_length, recipe.has_recall)
    if config.num_params > MAX_PARAMS:
        raise ModelError(
            f"a model of {config.num_params:,} parameters is too large to train here: use sizes with at most "
            f"{MAX_PARAMS:,}"
        )
    params = initial_params(config, recipe.seed)
    if start:
        params = load_params(start / "model.safetensors", params)
    checkpoint = directory / "checkpoint.safetensors"
    state = load_checkpoint(checkpoint, params) if checkpoint.exists() else TrainingState.fresh(params)
    _make(directory)
    for path, content in ((directory / "run.json", identity), (tokenizer_path, tokenizer.to_str())):
        with saving(path) as partial:
            partial.write_text(content, encoding="utf-8")
    return Run(corpus, config, recipe, directory, state)


def steps(run: Run) -> Generator[StepReport, None, None]:
    """Trains, and yields a report after each step.

    At the end, every SAVE_EVERY steps, and when the caller closes the iterator, `directory` holds a model and a
    checkpoint."""
    optimizer, state, recipe, config = AdamW(), run.state, run.recipe, run.config
    log = run.directory / "log.jsonl"
    _forget_after(log, state.step)
    saved, whole = state.step, True
    try:
        for step in range(state.step, recipe.num_steps):
            whole, begun = False, time.perf_counter()
            batch = run.corpus.batch(recipe, step)
            loss, grads = batch_gradients(state.params, config, batch, recipe.micro_tokens)
            norm = clip_gradients(grads, recipe.max_norm)
            if not math.isfinite(loss + norm):
                raise ModelError(
                    f"the loss left the range of float32 in step {step + 1}: train with a lower learning rate"
                )
            rate = learning_rate_at(step + 1, recipe.num_steps, recipe.peak_learning_rate, recipe.warmup_steps)
            optimizer.update(state.params, grads, state.first, state.second, learning_rate=rate, step=step + 1)
            speed = batch.tokens.size / (time.perf_counter() - begun)
            state, whole = dataclasses.replace(state, step=step + 1), True
            validation = validation_loss(state.params, config, run.corpus) if _is_measured(state.step, recipe) else None
            report = StepReport(
                step=state.step,
                num_steps=recipe.num_steps,
                context=batch.tokens.shape[1],
                loss=loss,
                learning_rate=rate,
                gradient_norm=norm,
                tokens_per_second=speed,
                validation_loss=validation,
            )
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps(vars(report)) + "\n")
            if state.step % SAVE_EVERY == 0:
                saved = _save(run, state)
            yield report
    finally:
        # A step that was broken off has left the parameters between two states, which must not be saved.
        if whole and saved < state.step:
            _save(run, state)


def _is_measured(step: int, recipe: Recipe) -> bool:
    return step == recipe.num_steps or step % max(recipe.num_steps // VALIDATIONS, 1) == 0


def _save(run: Run, state: TrainingState) -> int:
    save_model(run.directory, state.params, run.config)
    save_checkpoint(run.directory / "checkpoint.safetensors", state)
    return state.step


def _forget_after(log: Path, step: int) -> None:
    """Removes from the log the steps that were not saved; they are done again."""
    if not log.exists():
        return
    kept = log.read_bytes().splitlines(keepends=True)[:step]
    with saving(log) as partial:
        partial.write_bytes(b"".join(kept))


def batch_gradients(params: Params, config: ModelConfig, batch: Batch, micro_tokens: int) -> tuple[float, Params]:
    """The weighted mean loss and its gradients, computed `micro_tokens` at a time."""
    rows = max(micro_tokens // batch.tokens.shape[1], 1)
    batch = batch._replace(weights=batch.weights / batch.weights.sum())
    loss = 0.0
    grads: Params = {}
    for at in range(0, len(batch.tokens), rows):
        part_loss, part = loss_and_gradients(params, config, Batch(*(array[at : at + rows] for array in batch)))
        loss += part_loss
        grads = {name: grads[name] + grad for name, grad in part.items()} if grads else part
    return loss, grads


def read_text(path: Path) -> str:
    """The text of a file. Raises ModelError for a file that is not UTF-8 text."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"text {path} cannot be read ({error.strerror}): give a text file") from None
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path} is no text in UTF-8 (byte {error.object[error.start]:#04x} at {error.start}): convert it"
        ) from None
    if "\0" in text:
        raise ModelError(f"{path} holds zero bytes, so it is no text: give a text file")
    return text


def recorded_recipe(directory: Path) -> Recipe | None:
    """The recipe of the run that a directory holds; None when it holds none.

    Raises ModelError when run.json does not describe a run."""
    path = directory / "run.json"
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        phases = tuple(_recorded(Phase, phase) for phase in fields["phases"])
        return _recorded(Recipe, fields | {"phases": phases})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ModelError) as error:
        raise ModelError(f"{path} does not describe a training run ({error}): use an empty directory") from None


def _recorded(kind: type[T], fields: dict[str, Any]) -> T:
    """An instance of a dataclass of numbers, as asdict gave it."""
    wanted = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    if set(fields) != set(wanted):
        raise ValueError(f"{sorted(set(fields) ^ set(wanted))[0]!r} is missing or unknown")
    for name, value in fields.items():
        if wanted[name] in ("int", "float") and (type(value).__name__ != wanted[name] or not 0 <= value <= MOST):
            raise ValueError(f"{name} is {value!r}"[:80])
    return kind(**fields)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the directory {directory} ({error.strerror}): choose another") from None


def _identity(directory: Path, recipe: Recipe, text: str) -> str:
    """What this directory's run is of, as JSON.

    Raises ModelError, which says what, when the directory already holds something else."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    identity = json.dumps({"recipe": dataclasses.asdict(recipe), "text_sha256": digest}, indent=1)
    recorded = recorded_recipe(directory)
    if recorded is None:
        if directory.is_dir() and any(path.suffix != PARTIAL_SUFFIX for path in directory.iterdir()):
            raise ModelError(f"{directory} holds other files, which a run could overwrite: use an empty directory")
        return identity
    changed = [
        field.name
        for field in dataclasses.fields(Recipe)
        if getattr(recorded, field.name) != getattr(recipe, field.name)
    ]
    if changed:
        was = ", ".join(_described(recorded, name) for name in changed)
        raise ModelError(
            f"{directory} holds a run of another recipe ({was}): leave these options as they were, or use an "
            "empty directory"
        )
    if json.loads((directory / "run.json").read_text(encoding="utf-8")).get("text_sha256") != digest:
        raise ModelError(
            f"{directory} holds a run on another text: continue it with the same text, or use an empty directory"
        )
    return identity


def _described(recipe: Recipe, name: str) -> str:
    if name == "phases":
        return f"context {recipe.context} {'with' if recipe.has_recall else 'without'} recall"
    return f"{name} {getattr(recipe, name)}"

"""`npusim train`: trains a small language model on a text file."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from npusim.cli.command import Command
from npusim.cli.options import kinds
from npusim.cli.options.files import InputFile, JsonOutput, OutputDirectory
from npusim.cli.options.models import context_option, seed_option
from npusim.cli.options.option import Flag, Given, Option, Value
from npusim.cli.reporters.training import TrainingReporter
from npusim.cli.streams import working
from reference_model import ModelError
from reference_model.train.curve import draw_loss_curve
from reference_model.train.recipe import Recipe, curriculum
from reference_model.train.run import Run, StepReport, prepare, read_text, recorded_recipe, steps
from reference_model.train.sizes import recipe_for, shape_of

INTERRUPTED = 130


def _size(name: str, help: str) -> Value[int | None]:
    return Value((name,), help, kinds.whole(1), default=None)


TEXT = InputFile[Path](
    ("text",), "UTF-8 text; every twentieth part of it is held out for validation", metavar="TEXTFILE"
)
OUTPUT = OutputDirectory[Path | None](
    ("-o", "--output"),
    "where the result goes",
    note="model and run",
    default=None,
    default_words="TEXTFILE's name and -model",
)
CONTEXT: Value[int | None] = context_option(note="the model's", kind=kinds.tokens(least=1))
HIDDEN = _size("--hidden", "hidden size, a multiple of 32")
RECALL = Flag(("--recall",), "mix in key-value records, so that the model learns to look up what is far back")
START: Value[Path | None] = Value(
    ("--start",),
    "start from the weights and tokenizer of a model made by this command",
    kinds.path("DIR"),
    default=None,
)
JSON = JsonOutput()
VOCABULARY = _size("--vocab", "size of the vocabulary")
FIELDS: dict[Option[Any], str] = {
    _size("--steps", "training steps"): "num_steps",
    _size("--layers", "decoder layers"): "num_layers",
    VOCABULARY: "vocab_size",
    _size("--batch-tokens", "tokens in a step"): "batch_tokens",
    Value(
        ("--learning-rate",), "peak rate, after the warm-up", kinds.real(above=0), default=None
    ): "peak_learning_rate",
    seed_option(note="weights and batches", kind=kinds.whole(0), default=None): "seed",
}
"""Options for one number of the recipe, and the name of its field."""


class TrainCommand(Command):
    example = "npusim train mytext.txt -o mymodel\n  npusim generate 'Once upon' --model mymodel"
    notes = """Sizes that are not given are chosen for the text. Ctrl-C stops after the current step; the same command
continues from there and ends with the same bits."""
    options = (TEXT, OUTPUT, CONTEXT, HIDDEN, *FIELDS, RECALL, START, JSON)

    def run(self, given: Given) -> int:
        if given[START] is not None:
            given.refuse((VOCABULARY,), "with --start, whose tokenizer is kept")
        directory = given[OUTPUT] or Path(f"{given[TEXT].stem}-model")
        recipe = _recipe(given, directory)
        with working(f"reading {given[TEXT]}"):
            run = prepare(given[TEXT], directory, recipe, given[START])
        reporter = TrainingReporter(quiet=given[JSON].printed)
        reporter.begin(
            str(directory),
            num_params=run.num_params,
            context=recipe.context,
            num_tokens=len(run.corpus.training),
            step=run.state.step,
            num_steps=recipe.num_steps,
        )
        last, interrupted = _train(run, reporter)
        picture, no_picture = _picture(directory)
        interrupted = interrupted and (last is None or last.step < recipe.num_steps)
        result = _result(run, last, picture)
        given[JSON].write(result)
        if not given[JSON].printed:
            reporter.end(result, interrupted, no_picture)
        return INTERRUPTED if interrupted else 0


COMMAND = TrainCommand()


def _recipe(given: Given, directory: Path) -> Recipe:
    """The recipe of the run in `directory`, or else one that suits the text, with the changes that were given."""
    if (base := recorded_recipe(directory)) is None:
        base = recipe_for(len(read_text(given[TEXT])))
    changes: dict[str, Any] = {name: given[option] for option, name in FIELDS.items() if given.typed(option)}
    if (hidden := given[HIDDEN]) is not None:
        changes |= shape_of(hidden)
    if given[CONTEXT] is not None or given[RECALL]:
        changes["phases"] = curriculum(given[CONTEXT] or base.context, given[RECALL] or base.has_recall)
    return dataclasses.replace(base, **changes)


def _train(run: Run, reporter: TrainingReporter) -> tuple[StepReport | None, bool]:
    """-> (the last step's report, None if there was no step; whether the user asked to stop)."""
    last = None
    with reporter, _stop_requests() as requests, closing(steps(run)) as reports:
        for last in reports:
            reporter.step(last)
            if requests:
                break
    return last, bool(requests)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that gets an entry at the first Ctrl-C or SIGTERM, so that the current step can end. The second Ctrl-C
    stops at once."""
    requests: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        requests.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _picture(directory: Path) -> tuple[Path | None, str]:
    """(path of the loss curve, ""), or (None, why there is none): a missing library must not fail the run."""
    picture = directory / "loss.png"
    try:
        with working("drawing the loss curve"):
            draw_loss_curve(directory / "log.jsonl", picture)
    except ModelError as error:
        return None, str(error)
    return picture, ""


def _result(run: Run, last: StepReport | None, picture: Path | None) -> dict[str, Any]:
    return {
        "directory": str(run.directory),
        "parameters": run.num_params,
        "step": last.step if last else run.state.step,
        "num_steps": run.recipe.num_steps,
        "loss": last.loss if last else None,
        "validation_loss": last.validation_loss if last else None,
        "tokens_per_second": last.tokens_per_second if last else None,
        "picture": str(picture) if picture else None,
    }

"""`npusim train`: a language model of one's own from a text file."""

from __future__ import annotations

import argparse
import dataclasses
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from npusim.cli.command import Command, print_json, working
from npusim.cli.reporters.training import TrainingReporter
from npusim.errors import UsageError
from reference_model import ModelError
from reference_model.train.curve import draw_loss_curve
from reference_model.train.recipe import Recipe, curriculum
from reference_model.train.run import Run, StepReport, prepare, read_text, recorded_recipe, steps
from reference_model.train.sizes import recipe_for, shape_of

INTERRUPTED = 130
FIELDS = {
    "steps": "num_steps",
    "layers": "num_layers",
    "vocab": "vocab_size",
    "batch_tokens": "batch_tokens",
    "learning_rate": "peak_learning_rate",
    "seed": "seed",
}


class TrainCommand(Command):
    name = "train"
    summary = (
        "Train a small Llama-style language model on a text file, in NumPy. Sizes suit the text unless they are given. "
        "Ctrl-C stops after the step at hand; the same command goes on from there and ends with the same bits."
    )
    example = "npusim train mytext.txt -o mymodel\n  npusim generate 'Once upon' --model mymodel"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "text",
            type=Path,
            metavar="TEXTFILE",
            help="UTF-8 text; every twentieth part of it is held out for validation",
        )
        parser.add_argument(
            "-o",
            "--output",
            type=Path,
            metavar="DIR",
            help="where model and run go (default: TEXTFILE's name and -model)",
        )
        parser.add_argument("--steps", type=int, metavar="N", help="training steps")
        parser.add_argument("--context", type=int, metavar="N", help="the model's context, in tokens")
        parser.add_argument("--hidden", type=int, metavar="N", help="hidden size, a multiple of 32")
        parser.add_argument("--layers", type=int, metavar="N", help="decoder layers")
        parser.add_argument("--vocab", type=int, metavar="N", help="size of the vocabulary")
        parser.add_argument("--batch-tokens", type=int, metavar="N", help="tokens in a step")
        parser.add_argument("--learning-rate", type=float, metavar="X", help="its peak, after the warm-up")
        parser.add_argument("--seed", type=int, metavar="N", help="of weights and batches")
        parser.add_argument(
            "--recall",
            action="store_true",
            default=None,
            help="mix in key-value records: learn to look up what is far back",
        )
        parser.add_argument(
            "--start", type=Path, metavar="DIR", help="begin from weights and tokenizer of a model made by this command"
        )
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def run(self, options: argparse.Namespace) -> int:
        directory = options.output or Path(f"{options.text.stem}-model")
        recipe = _recipe(options, directory)
        with working(f"reading {options.text}"):
            run = prepare(options.text, directory, recipe, options.start)
        reporter = TrainingReporter(quiet=options.json)
        reporter.begin(
            str(directory), run.num_params, recipe.context, len(run.corpus.training), run.state.step, recipe.num_steps
        )
        last, interrupted = _train(run, reporter)
        picture, no_picture = _picture(directory)
        interrupted = interrupted and (last is None or last.step < recipe.num_steps)
        result = _result(run, last, picture)
        if options.json:
            print_json(result)
        else:
            reporter.end(result, interrupted, no_picture)
        return INTERRUPTED if interrupted else 0


def _recipe(options: argparse.Namespace, directory: Path) -> Recipe:
    """What was given, else what the run in `directory` was begun with, else what suits the text."""
    if (base := recorded_recipe(directory)) is None:
        base = recipe_for(len(read_text(options.text)))
    given: dict[str, Any] = {}
    for option, name in FIELDS.items():
        if (value := getattr(options, option)) is not None:
            if value < 0 or (value == 0 and option != "seed"):
                raise UsageError(f"--{option.replace('_', '-')} {value} is out of range: use a value above 0")
            given[name] = value
    if options.hidden is not None:
        given |= shape_of(options.hidden)
    if options.context is not None or options.recall is not None:
        given["phases"] = curriculum(options.context or base.context, options.recall or base.has_recall)
    return dataclasses.replace(base, **given)


def _train(run: Run, reporter: TrainingReporter) -> tuple[StepReport | None, bool]:
    """-> the last step's report, and whether the user asked to stop."""
    last = None
    with reporter, _stop_requests() as requests, closing(steps(run)) as reports:
        for last in reports:
            reporter.step(last)
            if requests:
                break
    return last, bool(requests)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Grows with the first Ctrl-C or SIGTERM, so that the step at hand can end; the second Ctrl-C stops at once, as
    ever."""
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
    """The loss curve, or why there is none: a missing library must not cost the run."""
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

"""`npusim model report`: what the chip's arithmetic costs a language model, on a text."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

import reference_model
from npusim.cli.command import console, print_json, working
from npusim.cli.generate import MODEL_HELP
from npusim.cli.reporters.fidelity import fidelity_renderables
from npusim.errors import UsageError
from reference_model import Model
from reference_model.kv_store import IntArray
from reference_model.quant.calibrate import calibrate
from reference_model.quant.fidelity import Fidelity, measure
from reference_model.quant.linear import SMOOTHING
from reference_model.quant.quantise import PRECISIONS, quantise
from reference_model.quant.twin import TwinModel

CALIBRATION_TOKENS = 2048
FEWEST_CALIBRATION_TOKENS = 64
FINDING = 1


@dataclass(frozen=True)
class Texts:
    """Token ids to measure on, and those to calibrate on."""

    measured: IntArray
    calibration: IntArray


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """The arguments of `npusim model report`."""
    parser.add_argument("--model", default="builtin", metavar="NAME|PATH", help=MODEL_HELP)
    parser.add_argument(
        "--text", type=Path, required=True, metavar="FILE", help="plain text (UTF-8) to measure on, from its beginning"
    )
    parser.add_argument(
        "--tokens", type=int, default=2048, metavar="N", help="measure on the first N tokens (default: 2048)"
    )
    parser.add_argument(
        "--precision", default=",".join(PRECISIONS), metavar="LIST",
        help=("comma-separated: bf16 (all in bf16), int8 (int8 weights, bf16 activations), w8a8 (both int8) "
            "(default: all three)"),
    )  # fmt: skip
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="text for w8a8's ranges (default: what follows in --text)"
    )
    parser.add_argument(
        "--smoothing", type=float, default=SMOOTHING, metavar="S",
        help=f"0 to 1: how much of what w8a8's inputs differ in size is moved into the weights (default: {SMOOTHING})",
    )  # fmt: skip
    parser.add_argument(
        "--max-loss", type=float, metavar="PERCENT", help="exit with 1 if any precision raises the perplexity by more"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Measures, prints and compares with --max-loss."""
    precisions = list(dict.fromkeys(options.precision.split(",")))
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise UsageError(f"--precision names {unknown[0]!r}: choose from {', '.join(PRECISIONS)}")
    with working(f"loading {options.model}"):
        model = reference_model.load(options.model)
    texts = _texts(model, options, "w8a8" in precisions)
    twins = [_twin(model, name, texts, options.smoothing) for name in precisions]
    with _counting("measuring", len(texts.measured) - 1) as advance:
        results = measure(model, twins, texts.measured, advance)
    if options.json:
        print_json(
            {"model": options.model, "text": str(options.text), "precisions": [_as_dict(result) for result in results]}
        )
    else:
        out = console()
        for part in fidelity_renderables(results):
            out.print(part)
    too_high = options.max_loss is not None and max(result.loss_percent for result in results) > options.max_loss
    return FINDING if too_high else 0


def _as_dict(result: Fidelity) -> dict[str, object]:
    return asdict(result) | {"loss_percent": result.loss_percent}


def _texts(model: Model, options: argparse.Namespace, calibrated: bool) -> Texts:
    if options.tokens < 1:
        raise UsageError(f"--tokens is {options.tokens}: use at least 1")
    ids = _encoded(model, options.text)
    measured, rest = ids[: options.tokens + 1], ids[options.tokens + 1 :]
    if len(measured) < 2:
        raise UsageError(
            f"{options.text} has {len(measured)} tokens: at least 2 are needed to predict one from another"
        )
    if not calibrated:
        return Texts(measured, rest)
    source = options.calibration or options.text
    calibration = (rest if options.calibration is None else _encoded(model, options.calibration))[:CALIBRATION_TOKENS]
    if len(calibration) < FEWEST_CALIBRATION_TOKENS:
        raise UsageError(
            f"{source} leaves {len(calibration)} tokens to calibrate w8a8 on, {FEWEST_CALIBRATION_TOKENS} are needed: "
            "give --calibration FILE, a smaller --tokens, or a --precision without w8a8"
        )
    return Texts(measured, calibration)


def _encoded(model: Model, path: Path) -> IntArray:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text (byte {error.start}): give a plain text file") from None
    return np.asarray(model.tokenizer.encode(text), np.int64)


def _twin(model: Model, precision: str, texts: Texts, smoothing: float) -> TwinModel:
    if precision != "w8a8":
        with working(f"quantising to {precision}"):
            return quantise(model, precision)
    with _counting("calibrating", len(texts.calibration)) as advance:
        ranges = calibrate(quantise(model, "bf16"), texts.calibration, advance)
    return quantise(model, precision, ranges, smoothing)


@contextmanager
def _counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar in tokens on standard error; nothing where that is not a terminal."""
    err = Console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)

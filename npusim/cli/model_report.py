"""`npusim model report`: how much accuracy a language model loses with the chip's arithmetic, measured on a text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import reference_model
from npusim.cli.command import Command
from npusim.cli.counting import counting
from npusim.cli.options import kinds
from npusim.cli.options.files import InputFile, JsonOutput
from npusim.cli.options.models import ModelOption, precision_option
from npusim.cli.options.option import Given, Value
from npusim.cli.printing import console
from npusim.cli.reporters.fidelity import fidelity_renderables
from npusim.cli.streams import working
from npusim.cli.texts import encoded
from npusim.errors import UsageError
from reference_model import Model
from reference_model.kv_store import IntArray
from reference_model.quant.calibrate import calibrate
from reference_model.quant.fidelity import measure
from reference_model.quant.linear import SMOOTHING
from reference_model.quant.quantise import PRECISIONS, quantise
from reference_model.quant.twin import TwinModel

CALIBRATION_TOKENS = 2048
FEWEST_CALIBRATION_TOKENS = 64
FINDING = 1

MODEL = ModelOption()
TEXT = InputFile[Path](("--text",), "plain text (UTF-8), from its beginning", note="to measure on")
TOKENS = Value(("--tokens",), "use the first N tokens", kinds.whole(1), default=2048)
PRECISION: Value[tuple[str, ...]] = precision_option(
    kind=kinds.commas(kinds.one_of(PRECISIONS, "FORMAT")),
    default=PRECISIONS,
    note="bf16 (all in bf16), int8 (int8 weights, bf16 activations), w8a8 (both int8)",
)
CALIBRATION = InputFile[Path | None](
    ("--calibration",),
    "text for finding w8a8's value ranges",
    default=None,
    default_words="the tokens after those measured",
)
SMOOTHING_SHARE = Value(
    ("--smoothing",),
    "0 to 1: how much of the differences in size between w8a8's inputs is moved into the weights",
    kinds.real(),
    default=SMOOTHING,
    metavar="S",
)
MAX_LOSS: Value[float | None] = Value(
    ("--max-loss",),
    "exit with 1 if a precision raises the perplexity by more than PERCENT",
    kinds.real(),
    default=None,
    metavar="PERCENT",
)
JSON = JsonOutput()


class ReportCommand(Command):
    example = "npusim model report --model smollm2 --text book.txt --tokens 2048"
    options = (MODEL, TEXT, TOKENS, PRECISION, CALIBRATION, SMOOTHING_SHARE, MAX_LOSS, JSON)

    def run(self, given: Given) -> int:
        """Measures, prints and compares with --max-loss."""
        named = given[PRECISION]
        precisions = tuple(dict.fromkeys(named))
        if "w8a8" not in precisions:
            given.refuse((CALIBRATION, SMOOTHING_SHARE), "where --precision leaves w8a8 out")
        with working(f"loading {given[MODEL]}"):
            model = reference_model.load(given[MODEL])
        measured, calibration = _texts(model, given, "w8a8" in precisions)
        twins = [_twin(model, name, calibration, given[SMOOTHING_SHARE]) for name in precisions]
        with counting("measuring", len(measured) - 1) as advance:
            results = measure(model, twins, measured, advance)
        rows = [asdict(result) | {"loss_percent": result.loss_percent} for result in results]
        given[JSON].write({"model": given[MODEL], "text": str(given[TEXT]), "precisions": rows})
        if not given[JSON].printed:
            out = console()
            for part in fidelity_renderables(results):
                out.print(part)
        most = given[MAX_LOSS]
        return FINDING if most is not None and max(result.loss_percent for result in results) > most else 0


COMMAND = ReportCommand()


def _texts(model: Model, given: Given, calibrated: bool) -> tuple[IntArray, IntArray]:
    """(token ids to measure on, token ids to calibrate on)."""
    ids, tokens = encoded(model, given[TEXT]), given[TOKENS]
    measured, rest = ids[: tokens + 1], ids[tokens + 1 :]
    if len(measured) < 2:
        raise UsageError(f"{given[TEXT]} has {len(measured)} tokens: at least 2 are needed to predict one from another")
    if not calibrated:
        return measured, rest
    own = given[CALIBRATION]
    calibration = (rest if own is None else encoded(model, own))[:CALIBRATION_TOKENS]
    if len(calibration) < FEWEST_CALIBRATION_TOKENS:
        raise UsageError(
            f"{own or given[TEXT]} leaves {len(calibration)} tokens for calibrating w8a8, but "
            f"{FEWEST_CALIBRATION_TOKENS} are needed: give --calibration FILE, a smaller --tokens, or a --precision "
            "without w8a8"
        )
    return measured, calibration


def _twin(model: Model, precision: str, calibration: IntArray, smoothing: float) -> TwinModel:
    if precision != "w8a8":
        with working(f"quantising to {precision}"):
            return quantise(model, precision)
    with counting("calibrating", len(calibration)) as advance:
        ranges = calibrate(quantise(model, "bf16"), calibration, advance)
    return quantise(model, precision, ranges, smoothing)

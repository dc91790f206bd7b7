"""`npusim calibrate`: projections of a model's keys, for mean_pages with a rank."""

from __future__ import annotations

from pathlib import Path

import reference_model
from kv.policies.projection import projection_bytes
from npusim.cli.command import Command
from npusim.cli.counting import counting
from npusim.cli.options import kinds
from npusim.cli.options.files import InputFile, JsonOutput, OutputFile, write_whole
from npusim.cli.options.models import ModelOption
from npusim.cli.options.option import Given, Value
from npusim.cli.printing import Grid, console
from npusim.cli.streams import working
from npusim.cli.texts import encoded
from npusim.evaluation.calibration import Calibrated, calibrate

MODEL = ModelOption()
TEXT = InputFile[Path](("--text",), "plain text (UTF-8), from its beginning", note="such as the model will read")
TOKENS = Value(("--tokens",), "use the first N tokens", kinds.whole(1), default=2048)
OUTPUT = OutputFile[Path](("-o", "--output"), "where the result goes", note="a calibration, in safetensors")
JSON = JsonOutput("what each rank loses")


class CalibrateCommand(Command):
    example = (
        "npusim calibrate --model smollm2 --text book.txt -o smollm2.keys\n"
        "  npusim eval --model smollm2 --policy full,quest,mean_pages:rank=32:calibration=smollm2.keys"
    )
    options = (MODEL, TEXT, TOKENS, OUTPUT, JSON)

    def run(self, given: Given) -> int:
        with working(f"loading {given[MODEL]}"):
            model = reference_model.load(given[MODEL])
        tokens = encoded(model, given[TEXT])[: given[TOKENS]]
        with counting("reading the text", len(tokens)) as advance:
            found = calibrate(model, tokens.tolist(), advance)
        write_whole(given[OUTPUT], projection_bytes(found.projection))
        ranks = {rank: found.lost[rank - 1] for rank in _ranks(found)}
        given[JSON].write({"model": given[MODEL], "tokens": found.num_tokens, "lost": ranks})
        if not given[JSON].printed:
            console().print(_table(found, ranks))
        return 0


COMMAND = CalibrateCommand()


def _ranks(found: Calibrated) -> list[int]:
    """Halves of a head's elements, down to 8."""
    whole = len(found.lost)
    return [whole >> halved for halved in range(max(1, whole.bit_length() - 3))]


def _table(found: Calibrated, ranks: dict[int, float]) -> Grid:
    columns = ("rank", "variance of q.k lost")
    table = Grid(*columns, title=f"fitted to {found.num_tokens:,} tokens", right=columns)
    for rank, lost in ranks.items():
        table.add_row(str(rank), f"{100 * lost:.2f} %")
    return table

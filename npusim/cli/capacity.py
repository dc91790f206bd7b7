"""`npusim capacity`: which boards hold a model, at what speed, and what binds."""

from __future__ import annotations

from typing import Any

import reference_model
from npusim.board import Board
from npusim.cli.command import Command, console, working
from npusim.cli.options.boards import MODEL_BOARDS, BoardName, BoardOption, VariantOption, WhatIfOption
from npusim.cli.options.files import JsonOutput, PlotDirectory, PlotOutput, write_pictures, write_whole
from npusim.cli.options.kinds import Commas, OneOf, Tokens
from npusim.cli.options.models import ContextOption, ModelOption, PrecisionOption
from npusim.cli.options.option import Given
from npusim.cli.reporters.capacity import capacity_table
from npusim.cli.reporters.capacity_plot import draw
from npusim.llm.capacity import PRECISIONS, Capacity, capacity, contexts_of

MODEL = ModelOption()
BOARDS = BoardOption[tuple[Board, ...]](
    kind=Commas(BoardName()), default=MODEL_BOARDS, default_words="all", repeats=True
)
PRECISION = PrecisionOption[tuple[str, ...]](kind=Commas(OneOf(PRECISIONS, "FORMAT")), default=PRECISIONS, repeats=True)
CONTEXT = ContextOption[tuple[int, ...] | None](
    kind=Commas(Tokens()), repeats=True, default_words="a few, up to the model's own"
)
VARIANT = VariantOption()
WHAT_IF = WhatIfOption()
JSON = JsonOutput()
PLOT = PlotOutput(note="the speeds")
PLOT_DIRECTORY = PlotDirectory(note="the speeds, a picture a board")


class CapacityCommand(Command):
    name = "capacity"
    summary = "Show for each board, precision, context and page budget whether a model fits, its speed, and what binds."
    example = "npusim capacity --model builtin --board duo256m,duo"
    options = (MODEL, BOARDS, PRECISION, CONTEXT, VARIANT, WHAT_IF, JSON, PLOT, PLOT_DIRECTORY)

    def run(self, given: Given) -> int:
        with working(f"loading {given[MODEL]}"):
            config = reference_model.load(given[MODEL]).config
        names = [board.name for board in MODEL_BOARDS if board in given[BOARDS]]
        boards = [given[WHAT_IF].of(board) for board in MODEL_BOARDS if board.name in names]
        variant, precisions, contexts = given[VARIANT], given[PRECISION], given[CONTEXT]
        found: list[Capacity] = []
        with working("lowering and timing"):
            found += capacity(
                config,
                boards,
                precisions,
                contexts or contexts_of(config),
                gather=variant.gather,
                submit=variant.submit,
            )
        rows = [_row(answer) for answer in sorted(found, key=lambda answer: names.index(answer.board))]
        if (path := given[PLOT]) is not None:
            write_whole(path, draw(rows, path.suffix[1:]))
        if (directory := given[PLOT_DIRECTORY]) is not None:
            of_board = {name: [row for row in rows if row["board"] == name] for name in names}
            write_pictures(directory, {name: draw(own, "png") for name, own in of_board.items() if own})
        given[JSON].write({"model": given[MODEL], "rows": rows})
        if not given[JSON].printed:
            console().print(capacity_table(rows))
        return 0


def _row(answer: Capacity) -> dict[str, Any]:
    """JSON-ready."""
    step = answer.step
    row: dict[str, Any] = {
        name: getattr(answer, name) for name in ("board", "precision", "context", "budget", "fits", "reason")
    }
    row |= {"needed_bytes": answer.needed_bytes, "ion_bytes": answer.ion_bytes}
    if step is None:
        return row | {"tokens_per_second": None, "ms_per_token": None, "dram_bytes_per_token": None, "binds": None}
    ms = {"chip": step.chip_ms, "cpu": step.cpu_ms, "submit": step.submit_ms, "total": step.ms}
    return row | {
        "tokens_per_second": step.tokens_per_second,
        "ms_per_token": ms,
        "dram_bytes_per_token": step.dram_bytes,
        "binds": step.binds,
    }

"""`npusim capacity`: which boards a model fits, how fast it is there, and what limits the speed."""

from __future__ import annotations

import reference_model
from npusim.board import Board
from npusim.cli.command import Command
from npusim.cli.options import kinds
from npusim.cli.options.boards import GATHER, MODEL_BOARD, MODEL_BOARDS, SUBMIT, BoardOption, WhatIfOption
from npusim.cli.options.files import JsonOutput, PlotDirectory, PlotOutput, write_pictures, write_whole
from npusim.cli.options.models import ModelOption, context_option, precision_option
from npusim.cli.options.option import Given, Value
from npusim.cli.printing import console
from npusim.cli.reporters.capacity import capacity_table
from npusim.cli.reporters.capacity_plot import draw
from npusim.cli.streams import working
from npusim.llm.capacity import Capacity, capacities, contexts_of
from npusim.llm.setup import PRECISIONS, Precision

MODEL = ModelOption()
BOARDS = BoardOption[tuple[Board, ...]](
    kind=kinds.commas(MODEL_BOARD), default=MODEL_BOARDS, default_words="all", repeats=True
)
PRECISION: Value[tuple[Precision, ...]] = precision_option(
    kind=kinds.commas(kinds.one_of(PRECISIONS, "FORMAT")), default=PRECISIONS, repeats=True
)
CONTEXT: Value[tuple[int, ...] | None] = context_option(
    kind=kinds.commas(kinds.tokens()), repeats=True, default_words="a few, up to the model's own"
)
WHAT_IF = WhatIfOption()
JSON = JsonOutput()
PLOT = PlotOutput(note="the speeds")
PLOT_DIRECTORY = PlotDirectory(note="the speeds, a picture a board")


class CapacityCommand(Command):
    example = "npusim capacity --model builtin --board duo256m,duo"
    options = (MODEL, BOARDS, PRECISION, CONTEXT, GATHER, SUBMIT, WHAT_IF, JSON, PLOT, PLOT_DIRECTORY)

    def run(self, given: Given) -> int:
        with working(f"loading {given[MODEL]}"):
            config = reference_model.load(given[MODEL]).config
        boards = [given[WHAT_IF].of(board) for board in MODEL_BOARDS if board in given[BOARDS]]
        precisions, contexts = given[PRECISION], given[CONTEXT]
        found: list[Capacity] = []
        with working("lowering and timing"):
            found += capacities(
                config,
                boards,
                precisions=precisions,
                contexts=contexts or contexts_of(config),
                gather=given[GATHER],
                submit=given[SUBMIT],
            )
        found.sort(key=lambda answer: boards.index(answer.setup.board))
        if (path := given[PLOT]) is not None:
            write_whole(path, draw(found, path.suffix[1:]))
        if (directory := given[PLOT_DIRECTORY]) is not None:
            of_board = {board.name: [answer for answer in found if answer.setup.board == board] for board in boards}
            write_pictures(directory, {name: draw(own, "png") for name, own in of_board.items() if own})
        given[JSON].write({"model": given[MODEL], "rows": [answer.json() for answer in found]})
        if not given[JSON].printed:
            console().print(capacity_table(found))
        return 0


COMMAND = CapacityCommand()

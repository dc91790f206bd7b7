"""`npusim capacity`: which boards hold a model, at what speed, and what binds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import reference_model
from npusim.board import BOARDS
from npusim.cli.board_options import add_variant_options, board_names
from npusim.cli.command import Command, check_writable, console, working, write_json, write_whole
from npusim.cli.reporters.capacity import capacity_table
from npusim.cli.reporters.capacity_plot import draw
from npusim.cli.reporters.evaluation_plot import check_plot
from npusim.cli.what_if import add_speed_options, what_if
from npusim.llm.capacity import PRECISIONS, Capacity, capacity, contexts_of
from npusim.llm.setup import Gather, Submit


class CapacityCommand(Command):
    name = "capacity"
    summary = "Show for each board, precision, context and page budget whether a model fits, its speed, and what binds."
    example = "npusim capacity --model builtin --board duo256m --board duo"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--model", default="builtin", metavar="NAME|PATH", help="as for `npusim generate` (default: builtin)"
        )
        parser.add_argument(
            "--board", action="append", choices=board_names(), help="this board only; may be given again (default: all)"
        )
        parser.add_argument(
            "--precision", action="append", choices=PRECISIONS, help="this precision only (default: both)"
        )
        parser.add_argument(
            "--context", action="append", type=int, metavar="N", help="this length only; may be given again"
        )
        add_variant_options(parser)
        add_speed_options(parser)
        parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="JSON: into FILE, or printed")
        parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the speeds (.png, .svg or .pdf)")

    def run(self, options: argparse.Namespace) -> int:
        if options.plot:
            check_plot(options.plot)
            check_writable(options.plot)
        with working(f"loading {options.model}"):
            config = reference_model.load(options.model).config
        boards = [what_if(board, options) for board in BOARDS if board.name in (options.board or board_names())]
        found: list[Capacity] = []
        with working("lowering and timing"):
            found += capacity(
                config,
                boards,
                options.precision or PRECISIONS,
                options.context or contexts_of(config),
                *_variant(options),
            )
        names = [board.name for board in boards]
        rows = [_row(answer) for answer in sorted(found, key=lambda answer: names.index(answer.board))]
        if options.plot:
            write_whole(options.plot, draw(rows, options.plot.suffix[1:]))
        if options.json:
            write_json(options.json, {"model": options.model, "rows": rows})
        if options.json != "-":
            console().print(capacity_table(rows))
        return 0


def _variant(options: argparse.Namespace) -> tuple[Gather, Submit]:
    return Gather(options.gather), Submit(options.submit)


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

"""`npusim profile`: how long a program takes on a board, and where the time goes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from npusim.board import BOARDS, board_named, default_board
from npusim.chip import CHIPS
from npusim.cli.command import Command, check_writable, console, print_json, working, write_whole
from npusim.cli.reporters.profile import profile_renderables
from npusim.cli.reporters.profile_page import profile_page
from npusim.cli.what_if import add_layout_options, add_speed_options, what_if
from npusim.profile.pmu import records_of
from npusim.profile.pmu_csv import des_csv, layer_csv
from npusim.profile.report import profile_data
from npusim.profile.trace import trace_of
from npusim.program.cmdbuf import Cmdbuf
from npusim.program.open import open_program
from npusim.timing.timeline import Timeline, time_workload
from npusim.timing.workload import concatenate, workload_of_cmdbuf


class ProfileCommand(Command):
    name = "profile"
    summary = "Predict how long a program takes on a board: time, engines, DRAM traffic, layers, roofline."
    example = "npusim profile mlp.cvimodel --board duo256m --html mlp.html"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", type=Path, metavar="MODEL", help="a .cvimodel, a raw command buffer or a dmabuf")
        names = ", ".join(board.name for board in BOARDS)
        parser.add_argument(
            "--board", metavar="B", help=f"one of {names} (default: the vendor's evaluation board of the chip)"
        )
        parser.add_argument(
            "--program", type=int, default=0, metavar="N", help="which program of a .cvimodel (default 0)"
        )
        parser.add_argument(
            "--chip",
            choices=[chip.name for chip in CHIPS],
            help="chip of a dmabuf (its header does not tell all apart)",
        )
        parser.add_argument("--no-md5", action="store_true", help="read a .cvimodel whose content was changed")
        add_speed_options(parser)
        add_layout_options(parser)
        parser.add_argument(
            "--json",
            type=Path,
            nargs="?",
            const=Path("-"),
            metavar="F",
            help="the report as JSON: a file, or the screen",
        )
        parser.add_argument(
            "--trace", type=Path, metavar="F", help="every command as a Chrome trace (open it in Perfetto)"
        )
        parser.add_argument(
            "--pmu", type=Path, metavar="F", help="PMU records in the vendor's form: F_des.csv, F_layer.csv"
        )
        parser.add_argument("--html", type=Path, metavar="F", help="one page with timeline, roofline and tables")

    def run(self, options: argparse.Namespace) -> int:
        for path in (options.json, options.trace, options.pmu, options.html):
            if path is not None and path != Path("-"):
                check_writable(path, options.model)
        with working(f"reading {options.model}"):
            program = open_program(options.model, chip=options.chip, verify_md5=not options.no_md5)
            cmdbufs = program.submitted(options.program)
        with working("timing"):
            workload = concatenate([workload_of_cmdbuf(cmdbuf) for cmdbuf in cmdbufs])
            board = board_named(options.board) if options.board else default_board(workload.chip)
            timeline = time_workload(workload, what_if(board, options))
            data = profile_data(timeline, cmdbufs, options.model.name, program.model, options.program)
        with working("writing"):
            written = _write_files(options, timeline, cmdbufs, data)
        if options.json == Path("-"):
            print_json(data)
            return 0
        out = console()
        out.print(*profile_renderables(data), sep="\n")
        for path in written:
            out.print(f"wrote {path}")
        return 0


def _write_files(
    options: argparse.Namespace, timeline: Timeline, cmdbufs: list[Cmdbuf], data: dict[str, Any]
) -> list[Path]:
    """Writes what was asked for; every file completely or not at all."""
    texts: list[tuple[Path, str]] = []
    if options.json is not None and options.json != Path("-"):
        texts.append((options.json, json.dumps(data, indent=2, allow_nan=False) + "\n"))
    if options.trace is not None:
        texts.append(
            (options.trace, json.dumps(trace_of(timeline, options.model.name), separators=(",", ":"), allow_nan=False))
        )
    if options.pmu is not None:
        records = records_of(timeline, cmdbufs)
        texts.append((options.pmu.with_name(options.pmu.name + "_des.csv"), des_csv(records)))
        texts.append(
            (options.pmu.with_name(options.pmu.name + "_layer.csv"), layer_csv(records, timeline.board.tpu_mhz * 1e6))
        )
    if options.html is not None:
        texts.append((options.html, profile_page(timeline, data)))
    for path, text in texts:
        write_whole(path, text.encode())
    return [path for path, _ in texts]

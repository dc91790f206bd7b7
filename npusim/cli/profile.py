"""`npusim profile`: how long a program takes on a board, and where the time goes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npusim.board import BOARDS, Board, default_board
from npusim.cli.command import Command, console, working
from npusim.cli.options.boards import BoardName, BoardOption, WhatIfOption
from npusim.cli.options.files import JsonOutput, OutputFile, write_whole
from npusim.cli.options.kinds import Whole
from npusim.cli.options.option import Given, Value
from npusim.cli.options.outputs import Output
from npusim.cli.options.programs import ProgramOption, ProgramSource
from npusim.cli.reporters.profile import profile_renderables
from npusim.cli.reporters.profile_page import profile_page
from npusim.errors import UsageError
from npusim.profile.pmu import records_of
from npusim.profile.pmu_csv import des_csv, layer_csv
from npusim.profile.report import profile_data
from npusim.profile.trace import trace_of
from npusim.program.cmdbuf import Cmdbuf
from npusim.timing.timeline import Timeline, time_workload
from npusim.timing.workload import concatenate, workload_of_cmdbuf


@dataclass(frozen=True)
class PmuOutput(OutputFile[Path | None]):
    """--pmu F, which becomes two files."""

    names: tuple[str, ...] = ("--pmu",)
    help: str = "PMU records in the vendor's form: FILE_des.csv, FILE_layer.csv"
    default: Any = None

    def outputs(self, value: Path | None) -> tuple[Output, ...]:
        return () if value is None else tuple(Output(path) for path in _pmu_paths(value))


PROGRAM = ProgramOption[ProgramSource]()
BOARD = BoardOption[Board | None](
    kind=BoardName(tuple(board.name for board in BOARDS)), default_words="the vendor's evaluation board of the chip"
)
NUMBER = Value(("--program",), "which program of a .cvimodel", Whole(), default=0)
WHAT_IF = WhatIfOption(layout=True)
JSON = JsonOutput()
TRACE = OutputFile[Path | None](
    ("--trace",), "every command as a Chrome trace (open it in Perfetto)", default=None, metavar="FILE"
)
PMU = PmuOutput()
HTML = OutputFile[Path | None](("--html",), "one page with timeline, roofline and tables", default=None, metavar="FILE")


class ProfileCommand(Command):
    name = "profile"
    summary = "Predict how long a program takes on a board: time, engines, DRAM traffic, layers, roofline."
    example = "npusim profile mlp.cvimodel --board duo256m --html mlp.html"
    options = (PROGRAM, BOARD, NUMBER, WHAT_IF, JSON, TRACE, PMU, HTML)

    def run(self, given: Given) -> int:
        source = given[PROGRAM]
        with working(f"reading {source.path}"):
            program = source.open()
            if program.model is None and given.typed(NUMBER):
                raise UsageError(f"--program does nothing for {source.path}: it has only one; leave it out")
            cmdbufs = program.submitted(given[NUMBER])
        with working("timing"):
            workload = concatenate([workload_of_cmdbuf(cmdbuf) for cmdbuf in cmdbufs])
            board = given[BOARD] or default_board(workload.chip)
            timeline = time_workload(workload, given[WHAT_IF].of(board))
            data = profile_data(timeline, cmdbufs, source.path.name, program.model, given[NUMBER])
        with working("writing"):
            written = _write_files(given, timeline, cmdbufs, data)
        given[JSON].write(data)
        if given[JSON].printed:
            return 0
        out = console()
        out.print(*profile_renderables(data), sep="\n")
        for path in written:
            out.print(f"wrote {path}")
        return 0


def _write_files(given: Given, timeline: Timeline, cmdbufs: list[Cmdbuf], data: dict[str, Any]) -> list[Path]:
    """Writes what was asked for besides JSON; every file completely or not at all."""
    texts: list[tuple[Path, str]] = []
    if (path := given[TRACE]) is not None:
        trace = trace_of(timeline, given[PROGRAM].path.name)
        texts.append((path, json.dumps(trace, separators=(",", ":"), allow_nan=False)))
    if (path := given[PMU]) is not None:
        records = records_of(timeline, cmdbufs)
        des, layer = _pmu_paths(path)
        texts.append((des, des_csv(records)))
        texts.append((layer, layer_csv(records, timeline.board.tpu_mhz * 1e6)))
    if (path := given[HTML]) is not None:
        texts.append((path, profile_page(timeline, data)))
    for path, text in texts:
        write_whole(path, text.encode())
    return [path for path, _ in texts] + [path for path in (given[JSON].path,) if path is not None]


def _pmu_paths(path: Path) -> tuple[Path, Path]:
    """The two files of --pmu PATH, named as the vendor's runtime names them."""
    return path.with_name(f"{path.name}_des.csv"), path.with_name(f"{path.name}_layer.csv")

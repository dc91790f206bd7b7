"""`npusim profile`: how long a program takes on a board, and where the time goes."""

from __future__ import annotations

from pathlib import Path

from npusim.board import BOARDS, Board, default_board
from npusim.cli.command import Command
from npusim.cli.options.boards import BoardOption, WhatIfOption, board_by_name
from npusim.cli.options.files import JsonOutput, OutputFile, write_whole
from npusim.cli.options.option import Given
from npusim.cli.options.outputs import Output
from npusim.cli.options.programs import NUMBER, ProgramOption, ProgramSource
from npusim.cli.printing import console
from npusim.cli.reporters.profile import profile_renderables
from npusim.cli.streams import working
from npusim.errors import UsageError
from npusim.profile import Profile, profile_program
from npusim.profile.page import profile_page
from npusim.profile.pmu_csv import des_csv, layer_csv
from npusim.profile.report import report_data
from npusim.profile.trace import trace_text


class PmuOutput(OutputFile[Path | None]):
    """--pmu FILE, which writes two files."""

    def outputs(self, value: Path | None) -> tuple[Output, ...]:
        return () if value is None else tuple(Output(path) for path in _pmu_paths(value))


PROGRAM = ProgramOption[ProgramSource]()
BOARD = BoardOption[Board | None](kind=board_by_name(BOARDS), default_words="the vendor's evaluation board of the chip")
WHAT_IF = WhatIfOption(layout=True)
JSON = JsonOutput()
TRACE = OutputFile[Path | None](
    ("--trace",), "every command as a Chrome trace (open it in Perfetto)", default=None, metavar="FILE"
)
PMU = PmuOutput(("--pmu",), "PMU records in the vendor's form: FILE_des.csv, FILE_layer.csv", default=None)
HTML = OutputFile[Path | None](("--html",), "one page with timeline, roofline and tables", default=None, metavar="FILE")


class ProfileCommand(Command):
    example = "npusim profile mlp.cvimodel --board duo256m --html mlp.html"
    options = (PROGRAM, BOARD, NUMBER, WHAT_IF, JSON, TRACE, PMU, HTML)

    def run(self, given: Given) -> int:
        source = given[PROGRAM]
        with working(f"reading {source.path}"):
            program = source.open()
            if program.model is None and given.typed(NUMBER):
                raise UsageError(f"--program does nothing for {source.path}: it has only one; leave it out")
        with working("timing"):
            board = given[WHAT_IF].of(given[BOARD] or default_board(program.chip))
            result = profile_program(program, board, number=given[NUMBER])
        with working("writing"):
            written = _write_files(given, result)
        given[JSON].write(report_data(result))
        if given[JSON].printed:
            return 0
        out = console()
        out.print(*profile_renderables(result), sep="\n")
        for path in written:
            out.print(f"wrote {path}")
        return 0


COMMAND = ProfileCommand()


def _write_files(given: Given, result: Profile) -> list[Path]:
    """Writes the files that were asked for except JSON, each completely or not at all. -> all files, JSON included."""
    texts: list[tuple[Path, str]] = []
    if (path := given[TRACE]) is not None:
        texts.append((path, trace_text(result)))
    if (path := given[PMU]) is not None:
        des, layer = _pmu_paths(path)
        clock_hz = result.timeline.board.tpu_mhz * 1e6
        texts += [(des, des_csv(result.records)), (layer, layer_csv(result.records, clock_hz))]
    if (path := given[HTML]) is not None:
        texts.append((path, profile_page(result)))
    for path, text in texts:
        write_whole(path, text.encode())
    return [path for path, _ in texts] + [path for path in (given[JSON].path,) if path is not None]


def _pmu_paths(path: Path) -> tuple[Path, Path]:
    """The two files of --pmu PATH, named as the vendor's runtime names them."""
    return path.with_name(f"{path.name}_des.csv"), path.with_name(f"{path.name}_layer.csv")

"""`npusim npz_tool compare`: `npusim diff` with the vendor's name and options, for scripts that use them."""

from __future__ import annotations

from dataclasses import replace

from golden import read_archive
from npusim.cli.command import Command
from npusim.cli.diff import DEFAULT_TOLERANCE, EXCEPT, REFERENCE, TARGET, TOLERANCE, compare_archives
from npusim.cli.options import kinds
from npusim.cli.options.option import Flag, Given, Value
from npusim.cli.printing import console
from npusim.cli.reporters.comparison import comparison_table

ACTION = Value(("action",), "what to do", kinds.one_of(("compare",), "ACTION"))
ARCHIVE_TOLERANCE = replace(TOLERANCE, default=DEFAULT_TOLERANCE, default_words="")
VERBOSE = Flag(("-v", "--verbose"), "accepted and ignored: everything is always shown")


class NpzToolCommand(Command):
    example = "npusim npz_tool compare out.npz board.npz --tolerance 0.99,0.9 --except -"
    options = (ACTION, TARGET, REFERENCE, ARCHIVE_TOLERANCE, EXCEPT, VERBOSE)

    def run(self, given: Given) -> int:
        tolerance = given[ARCHIVE_TOLERANCE] or DEFAULT_TOLERANCE
        result = compare_archives(read_archive(given[TARGET]), read_archive(given[REFERENCE]), tolerance, given[EXCEPT])
        console().print(comparison_table(result))
        console().print(result.message)
        return 0 if result else 1


COMMAND = NpzToolCommand()

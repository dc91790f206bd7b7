"""`npusim as-runtime`: the vendor's own tools on npusim."""

from __future__ import annotations

from npusim.cli.command import Command
from npusim.cli.options.argument import Argument, Form
from npusim.cli.options.option import Given, Option, Words
from npusim.cli.streams import say
from npusim.compat.launch import run_as_runtime


class CommandLine(Option[tuple[str, ...]]):
    """All words to the end of the line, with or without dashes. A -- in front of them is dropped."""

    arguments = (
        Argument(
            ("words",),
            "what to run, and its own arguments; a -- may stand in front",
            metavar="SCRIPT ...",
            form=Form.REST,
            required=True,
        ),
    )

    def value(self, words: Words) -> tuple[str, ...]:
        first, *others = words["words"] or ("--",)
        return tuple(others) if first == "--" else (first, *others)


COMMAND_LINE = CommandLine()


class AsRuntimeCommand(Command):
    example = "npusim as-runtime -- model_runner.py --input in.npz --model mlp.cvimodel --output out.npz"
    notes = (
        "SCRIPT runs in its own Python, for which npusim must be installed too.\n"
        "exit code: the script's; 2 if it cannot be run"
    )
    options = (COMMAND_LINE,)

    def run(self, given: Given) -> int:
        words = given[COMMAND_LINE]
        code, imported = run_as_runtime(words)
        if not imported:
            say(f"{words[0]} never imported pyruntime_cvi, so nothing of it ran on npusim")
        return code


COMMAND = AsRuntimeCommand()

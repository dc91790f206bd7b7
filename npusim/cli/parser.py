"""Parses the command line: with the parser of the command that is called, or of the whole list if none is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from npusim import __version__
from npusim.cli.command import Command
from npusim.cli.commands import Entry, every_entry
from npusim.cli.options.argument import ALONE
from npusim.cli.options.option import Given, Listed, OnlyWith
from npusim.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError instead of exiting, and prints examples as they are written."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about, formatter_class=argparse.RawDescriptionHelpFormatter)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As in argparse, except that a stream that cannot be written is an error."""
        if message:
            (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help` shows the options)")


def parse(commands: Sequence[Entry], arguments: Sequence[str]) -> tuple[Command, Given]:
    """(the command that is called, its options). Raises UsageError for words that the command does not take. --help
    and --version print and raise SystemExit."""
    called = ["npusim"]
    entry = Entry("npusim", "Runs CVITEK CV18xx TPU programs, bit for bit, without a board.", actions=tuple(commands))
    for word in arguments:
        if (below := next((action for action in entry.actions if action.name == word), None)) is None:
            break
        called.append(word)
        entry = below
    rest = arguments[len(called) - 1 :]
    if entry.actions:
        parser = _group_parser(" ".join(called), entry)
        parser.parse_args(rest)
        parser.error("the name of a command has to come first")
    command = entry.load()
    return command, Given(command.options, _words(_command_parser(" ".join(called), entry, command), rest))


def _words(parser: Parser, arguments: Sequence[str]) -> dict[str, Any]:
    try:
        return vars(parser.parse_args(arguments))
    except UsageError as error:
        if (again := _json_alone(arguments)) is None:
            raise
        try:
            return vars(parser.parse_args(again))
        except UsageError:
            raise error from None


def _json_alone(arguments: Sequence[str]) -> list[str] | None:
    """The arguments with --json taken to have no FILE, so that the next word is the command's: in `check --json X`, X
    may be the program. None if no word follows --json."""
    for at, word in enumerate(arguments[:-1]):
        if word == "--json" and not arguments[at + 1].startswith("-"):
            return [*arguments[:at], f"--json={ALONE}", *arguments[at + 1 :]]
    return None


def _group_parser(prog: str, group: Entry) -> Parser:
    """A parser that shows the commands of a group, and refuses everything except --help and --version."""
    whole = prog == group.name
    examples = () if whole else [action.load().example for _, action in every_entry(group.actions)]
    parser = Parser(prog=prog, description=group.summary, epilog=_epilog(*examples) if examples else None)
    if whole:
        parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    listed = parser.add_subparsers(metavar="COMMAND" if whole else "ACTION", required=True)
    for action in group.actions:
        listed.add_parser(action.name, help=action.summary.replace("%", "%%"))
    return parser


def _command_parser(prog: str, entry: Entry, command: Command) -> Parser:
    notes = f"\n\n{command.notes}" if command.notes else ""
    parser = Parser(prog=prog, description=entry.summary, epilog=_epilog(command.example) + notes)
    for listed in command.options:
        _add_option(parser, listed)
    return parser


def _epilog(*examples: str) -> str:
    return "\n  ".join(("example:", *examples))


def _add_option(parser: argparse.ArgumentParser, entry: Listed) -> None:
    options: tuple[Any, ...] = (entry,)
    group: argparse._ActionsContainer = parser
    if isinstance(entry, OnlyWith):
        group, options = parser.add_argument_group(entry.title), (entry.first, *entry.others)
    for option in options:
        for argument in option.arguments:
            argument.add_to(group)

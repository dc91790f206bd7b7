"""The parser of the command line, made from the commands' data."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from npusim import __version__
from npusim.cli.command import Command
from npusim.cli.options.argument import ALONE
from npusim.cli.options.option import Given, Listed, OnlyWith
from npusim.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Refuses with a UsageError of one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help` shows the options)")


def make_parser(commands: Iterable[Command]) -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="npusim", description="Runs CVITEK CV18xx TPU programs, bit for bit, without a board.")
    parser.add_argument("--version", action="version", version=f"npusim {__version__}")
    _add_commands(parser, commands, "COMMAND")
    return parser


def parse(commands: Iterable[Command], arguments: Sequence[str]) -> tuple[Command, Given]:
    """The command that is called, and what it is told. Raises UsageError for what it cannot be told; --help and
    --version print and raise SystemExit."""
    parser = make_parser(commands)
    try:
        words = vars(parser.parse_args(arguments))
    except UsageError as error:
        if (again := _json_alone(arguments)) is None:
            raise
        try:
            words = vars(parser.parse_args(again))
        except UsageError:
            raise error from None
    command: Command = words.pop("command")
    return command, Given(command.options, words)


def _json_alone(arguments: Sequence[str]) -> list[str] | None:
    """The arguments with the word behind --json as one of the command's own: `check --json FILE` lacks a program
    otherwise. None where no word follows."""
    for at, word in enumerate(arguments[:-1]):
        if word == "--json" and not arguments[at + 1].startswith("-"):
            return [*arguments[:at], f"--json={ALONE}", *arguments[at + 1 :]]
    return None


def _add_commands(parser: argparse.ArgumentParser, commands: Iterable[Command], metavar: str) -> None:
    subparsers = parser.add_subparsers(metavar=metavar, required=True)
    for command in commands:
        end = f"\n\n{command.notes}" if command.notes else ""
        sub = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary,
            epilog=f"example:\n  {command.example}{end}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.actions:
            _add_commands(sub, command.actions, "ACTION")
            continue
        for entry in command.options:
            _add_option(sub, entry)
        sub.set_defaults(command=command)


def _add_option(parser: argparse.ArgumentParser, entry: Listed) -> None:
    options: tuple[Any, ...] = (entry,)
    group: argparse._ActionsContainer = parser
    if isinstance(entry, OnlyWith):
        group, options = parser.add_argument_group(entry.title), (entry.first, *entry.others)
    for option in options:
        for argument in option.arguments:
            argument.add_to(group)

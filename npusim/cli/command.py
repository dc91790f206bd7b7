"""What every command is, and the few things that several need: consoles and a spinner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from rich.console import Console

from npusim.cli.options.argument import Argument
from npusim.cli.options.option import Given, Listed, flat


class Command:
    """One command as data, and what it does. A command has either options or actions, which are commands below it.

    summary     its help
    example     a line that works
    notes       more for the end of its help, such as exit codes
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    example: ClassVar[str]
    notes: ClassVar[str] = ""
    options: ClassVar[tuple[Listed, ...]] = ()
    actions: ClassVar[tuple[Command, ...]] = ()

    def run(self, given: Given) -> int:
        """Does the work and returns the exit code. Raises NpusimError, GoldenError, ModelError or KVError for expected
        failures."""
        raise NotImplementedError


def every_command(commands: Iterable[Command]) -> Iterator[tuple[str, Command]]:
    """Each command that does something, with the words that call it ("model list")."""
    for command in commands:
        if command.actions:
            yield from ((f"{command.name} {words}", action) for words, action in every_command(command.actions))
        else:
            yield command.name, command


def every_argument(commands: Iterable[Command]) -> dict[str, tuple[Argument, ...]]:
    """What each command that does something can be told, by the words that call it."""
    return {
        words: tuple(argument for option in flat(command.options) for argument in option.arguments)
        for words, command in every_command(commands)
    }


def console() -> Console:
    """Standard output, as wide as the terminal; a pipe gets plain text that is never cut."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=200)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on standard error while the block runs; nothing where that is not a terminal."""
    err = Console(stderr=True)
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield

"""What every command is, and the few things that several need: consoles and a spinner."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from npusim.cli.options.argument import Argument
from npusim.cli.options.option import Given, Listed, flat

if TYPE_CHECKING:
    from rich.console import Console


class Command:
    """What one command can be told, and what it does; its name and summary are in npusim.cli.commands.

    example     a line that works
    notes       more for the end of its help, such as exit codes
    """

    example: ClassVar[str]
    notes: ClassVar[str] = ""
    options: ClassVar[tuple[Listed, ...]] = ()

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Of all options."""
        return tuple(argument for option in flat(self.options) for argument in option.arguments)

    def run(self, given: Given) -> int:
        """Does the work and returns the exit code. Raises NpusimError, GoldenError, ModelError or KVError for expected
        failures."""
        raise NotImplementedError


def console() -> Console:
    """Standard output, as wide as the terminal; a pipe gets plain text that is never cut."""
    from rich.console import Console

    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=200)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on standard error while the block runs; nothing where that is not a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield

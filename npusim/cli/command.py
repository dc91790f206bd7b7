"""The base class of all commands."""

from __future__ import annotations

from typing import ClassVar

from npusim.cli.options.argument import Argument
from npusim.cli.options.option import Given, Listed, flat


class Command:
    """The options of one command, and what it does. Its name and summary are in npusim.cli.commands.

    example     a command line that works, shown in the help
    notes       text for the end of the help, such as exit codes
    """

    example: ClassVar[str]
    notes: ClassVar[str] = ""
    options: ClassVar[tuple[Listed, ...]] = ()

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments of all options."""
        return tuple(argument for option in flat(self.options) for argument in option.arguments)

    def run(self, given: Given) -> int:
        """Does the work and returns the exit code. Raises NpusimError, GoldenError, ModelError or KVError for expected
        failures."""
        raise NotImplementedError

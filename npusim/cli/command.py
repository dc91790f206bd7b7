"""What every command is."""

from __future__ import annotations

from typing import ClassVar

from npusim.cli.options.argument import Argument
from npusim.cli.options.option import Given, Listed, flat


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

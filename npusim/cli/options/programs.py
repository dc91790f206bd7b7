"""The option that names a program file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

from npusim.chip import CHIPS, Chip
from npusim.cli.options import kinds
from npusim.cli.options.argument import Argument, File
from npusim.cli.options.option import Flag, Option, Value, Words
from npusim.cli.streams import say
from npusim.errors import FileFormatError, Md5Warning, UsageError
from npusim.loader.cvimodel_types import Cvimodel
from npusim.program.open import ProgramFile, open_program

CHIP: Value[str | None] = Value(
    ("--chip",),
    "chip that the program is for; a dmabuf needs it, since its header does not name one; other files must match it",
    kinds.one_of(tuple(chip.name for chip in CHIPS)),
    default=None,
)
NUMBER = Value(
    ("--program",), "which program of a .cvimodel; there is one for each batch size", kinds.whole(), default=0
)
NO_MD5 = Flag(("--no-md5",), "do not check the md5 of a .cvimodel; otherwise a wrong one gives a warning")
STRICT = Flag(("--strict",), "refuse a .cvimodel whose md5 is wrong")


@dataclass(frozen=True)
class ProgramSource:
    """A program file to open: its path, the chip that it must be for (None: any), and how its md5 is checked."""

    path: Path
    chip: str | None = None
    verify_md5: bool = True
    strict: bool = False

    def open(self) -> ProgramFile:
        """Opens it. Raises what open_program raises, and UsageError if --chip, --no-md5 or --strict contradict the
        file."""
        with self.md5():
            program = open_program(self.path, chip=self.chip, verify_md5=self.verify_md5)
        self.require_chip(program.chip)
        for flag, was_given in ((NO_MD5, not self.verify_md5), (STRICT, self.strict)):
            if program.model is None and was_given:
                raise UsageError(
                    f"{flag.names[0]} does nothing for {self.path}: only a .cvimodel has an md5; leave it out"
                )
        return program

    @contextmanager
    def md5(self) -> Iterator[None]:
        """Prints a warning on standard error if a file that is read inside the block has a wrong md5.

        With --strict it raises FileFormatError instead."""
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always", Md5Warning)
            yield
        for warning in found:
            if not isinstance(warning.message, Md5Warning):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
            elif self.strict:
                raise FileFormatError(f"{warning.message} (leave {STRICT.names[0]} out to read it anyway)")
            else:
                say(f"warning: {warning.message} ({NO_MD5.names[0]} silences this)")

    def open_cvimodel(self) -> Cvimodel:
        """As `open`. Raises FileFormatError if the file is not a .cvimodel."""
        program = self.open()
        if program.model is None:
            raise FileFormatError(
                f"{self.path} holds commands for {program.chip.name} alone: give a .cvimodel (`npusim disasm` shows "
                "commands)"
            )
        return program.model

    def require_chip(self, chip: Chip) -> None:
        """Raises UsageError if `chip`, which the file is for, is not the one of --chip."""
        if self.chip not in (None, chip.name):
            raise UsageError(f"{self.path} is for {chip.name}: leave --chip {self.chip} out")


S = TypeVar("S", ProgramSource, ProgramSource | None)


@dataclass(frozen=True)
class ProgramOption(Option[S]):
    """A program file, with --chip, --no-md5 and --strict.

    only_cvimodel   whether the command cannot use command buffers and dmabufs
    """

    names: tuple[str, ...] = ("model",)
    only_cvimodel: bool = False
    required: bool = True
    note: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return (self._file.argument, *CHIP.arguments, *NO_MD5.arguments, *STRICT.arguments)

    def value(self, words: Words) -> S:
        path = self._file.value(words)
        if path is not None:
            if NO_MD5.value(words) and STRICT.value(words):
                raise UsageError(f"{NO_MD5.names[0]} and {STRICT.names[0]} contradict each other: leave one out")
            return ProgramSource(path, CHIP.value(words), not NO_MD5.value(words), STRICT.value(words))
        for argument in self.arguments[1:]:
            if argument.key in words:
                raise UsageError(f"{argument.name} does nothing without {self._file.argument.name}: leave it out")
        return cast(S, None)

    def inputs(self, value: S) -> tuple[Path, ...]:
        return () if value is None else (value.path,)

    @property
    def _file(self) -> Value[Path | None]:
        what = "a .cvimodel" if self.only_cvimodel else "a .cvimodel, a raw command buffer or a dmabuf"
        path = Value[Path | None](
            self.names, what, kinds.path("MODEL"), note=self.note, aliases=self.aliases, file=File.INPUT
        )
        return path if self.required else replace(path, default=None)

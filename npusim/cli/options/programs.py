"""The option that names a program file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

from npusim.chip import CHIPS, Chip
from npusim.cli.options.argument import Argument, File
from npusim.cli.options.kinds import OneOf, PathText
from npusim.cli.options.option import Flag, Option, Value, Words
from npusim.errors import FileFormatError, UsageError
from npusim.loader.cvimodel_types import Cvimodel
from npusim.program.open import ProgramFile, open_program

CHIP: Value[str | None] = Value(
    ("--chip",),
    "chip that the program is for; a dmabuf needs it, since its header does not tell, other files are held against it",
    OneOf(tuple(chip.name for chip in CHIPS)),
    default=None,
)
NO_MD5 = Flag(("--no-md5",), "read a .cvimodel that was edited after compilation, whose md5 no longer fits")


@dataclass(frozen=True)
class ProgramSource:
    """A program file to be opened: its path, the chip that it must be for (None: any), and whether its md5 counts."""

    path: Path
    chip: str | None = None
    verify_md5: bool = True

    def open(self) -> ProgramFile:
        """Raises as open_program does, and UsageError where --chip or --no-md5 do not go with the file."""
        program = open_program(self.path, chip=self.chip, verify_md5=self.verify_md5)
        self.require_chip(program.chip)
        if program.model is None and not self.verify_md5:
            raise UsageError(
                f"{NO_MD5.names[0]} does nothing for {self.path}: only a .cvimodel has an md5; leave it out"
            )
        return program

    def open_cvimodel(self) -> Cvimodel:
        """As `open`. Raises FileFormatError where the file is not a .cvimodel."""
        program = self.open()
        if program.model is None:
            raise FileFormatError(
                f"{self.path} holds commands for {program.chip.name} alone: give a .cvimodel (`npusim disasm` shows "
                "commands)"
            )
        return program.model

    def require_chip(self, chip: Chip) -> None:
        """Raises UsageError where `chip`, which the file is for, is not the one that was asked for."""
        if self.chip not in (None, chip.name):
            raise UsageError(f"{self.path} is for {chip.name}: leave --chip {self.chip} out")


S = TypeVar("S", ProgramSource, ProgramSource | None)


@dataclass(frozen=True)
class ProgramOption(Option[S]):
    """A program file, with --chip and --no-md5.

    only_cvimodel   whether command buffers and dmabufs are of no use to the command
    """

    names: tuple[str, ...] = ("model",)
    only_cvimodel: bool = False
    required: bool = True
    note: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return (self._file.argument, *CHIP.arguments, *NO_MD5.arguments)

    def value(self, words: Words) -> S:
        path = self._file.value(words)
        if path is not None:
            return ProgramSource(path, CHIP.value(words), not NO_MD5.value(words))
        for argument in (*CHIP.arguments, *NO_MD5.arguments):
            if argument.key in words:
                raise UsageError(f"{argument.name} does nothing without {self._file.argument.name}: leave it out")
        return cast(S, None)

    def inputs(self, value: S) -> tuple[Path, ...]:
        return () if value is None else (value.path,)

    @property
    def _file(self) -> Value[Path | None]:
        what = "a .cvimodel" if self.only_cvimodel else "a .cvimodel, a raw command buffer or a dmabuf"
        path = Value[Path | None](
            self.names, what, PathText("MODEL"), note=self.note, aliases=self.aliases, file=File.INPUT
        )
        return path if self.required else replace(path, default=None)

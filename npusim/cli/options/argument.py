"""One argument of a command line, as data."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Form(Enum):
    """What follows an argument's name on the command line."""

    WORD = "a word"
    FLAG = "nothing"
    MAYBE = "a word or nothing"
    REPEATED = "a word, and the name may be given again"
    REST = "every word to the end of the line"


class File(Enum):
    """What kind of path an argument takes."""

    INPUT = "a file that is read"
    OUTPUT = "a file that is written"
    DIRECTORY = "a directory that is written into"


ALONE = "-"
"""Stands for the word of a Form.MAYBE argument that was given without one."""


@dataclass(frozen=True)
class Argument:
    """What argparse, shell completion and a manual page need to know.

    names       ("-o", "--output"), or one name without dashes for a positional argument
    help        what it means; the same for every command that has it
    note        an addition for one command
    default     the default in words; "" for none
    aliases     older names, which still work and are not shown
    """

    names: tuple[str, ...]
    help: str
    note: str = ""
    metavar: str = ""
    form: Form = Form.WORD
    choices: tuple[str, ...] = ()
    default: str = ""
    required: bool = False
    aliases: tuple[str, ...] = ()
    file: File | None = None

    @property
    def name(self) -> str:
        """The name in messages: "--output", or "MODEL"."""
        return self.names[-1] if self.is_flag else self.metavar

    @property
    def key(self) -> str:
        """The name in the parsed words: "output"."""
        return self.names[-1].lstrip("-").replace("-", "_")

    @property
    def is_flag(self) -> bool:
        """Whether its name starts with dashes."""
        return self.names[-1].startswith("-")

    @property
    def full_help(self) -> str:
        """Help, note, choices and default in one line."""
        parts = [f"{self.help}: {self.note}" if self.note else self.help]
        if self.choices:
            parts.append(f"one of {', '.join(self.choices)}")
        if self.form is Form.REPEATED:
            parts.append("may be given again")
        return "; ".join(parts) + (f" (default: {self.default})" if self.default else "")

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Adds the argument to `parser`. An argument that is not given has no attribute in the parsed namespace."""
        how: dict[str, Any] = {"default": argparse.SUPPRESS}
        match self.form:
            case Form.FLAG:
                how |= {"action": "store_true"}
            case Form.MAYBE:
                how |= {"nargs": "?", "const": ALONE}
            case Form.REPEATED:
                how |= {"action": "append"}
            case Form.REST:
                how |= {"nargs": argparse.REMAINDER}
        if self.form is not Form.FLAG:
            how |= {"metavar": self.metavar}
        shown = self.full_help.replace("%", "%%")
        if not self.is_flag:
            parser.add_argument(self.key, help=shown, **how)
            return
        parser.add_argument(*self.names, dest=self.key, required=self.required, help=shown, **how)
        if self.aliases:
            parser.add_argument(*self.aliases, dest=self.key, help=argparse.SUPPRESS, **how)

"""Kinds of values on the command line. Each reads a value from text, and says what to give if the text is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Enum)
T_co = TypeVar("T_co", covariant=True)


class Kind(Protocol[T_co]):
    """A kind of value. `metavar` is the value's name in a command's help; `choices` are all possible words, or () if
    they cannot be listed."""

    @property
    def metavar(self) -> str: ...

    @property
    def choices(self) -> tuple[str, ...]: ...

    def read(self, text: str) -> T_co:
        """The value. Raises ValueError whose text says what to give instead."""
        ...


@dataclass(frozen=True)
class Text:
    """Any text."""

    metavar: str = "TEXT"
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class PathText:
    """A path, which need not exist."""

    metavar: str = "FILE"
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> Path:
        if not text:
            raise ValueError("give a path")
        return Path(text)


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    least: int | None = None
    metavar: str = "N"
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("give a whole number") from None
        return _at_least(self.least, number)


@dataclass(frozen=True)
class Tokens:
    """A number of tokens; 4k is 4096."""

    metavar: str = "N"
    least: int | None = None
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> int:
        try:
            number = int(text[:-1]) * 1024 if text[-1:] in ("k", "K") else int(text)
        except ValueError:
            raise ValueError("give a whole number of tokens, as 64 or 4k") from None
        return _at_least(self.least, number)


@dataclass(frozen=True)
class Real:
    """A number that is neither infinite nor NaN."""

    above: float = -math.inf
    metavar: str = "X"
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError("give a number")
        if not number > self.above:
            raise ValueError(f"use a number above {self.above:g}")
        return number


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    choices: tuple[str, ...]
    metavar: str = "NAME"

    def read(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError(f"choose from {', '.join(self.choices)}")
        return text


@dataclass(frozen=True)
class Member(Generic[E]):
    """A member of an enumeration by its value."""

    of: type[E]
    metavar: str = "WAY"

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(str(member.value) for member in self.of)

    def read(self, text: str) -> E:
        return self.of(OneOf(self.choices).read(text))


@dataclass(frozen=True)
class Commas(Generic[T]):
    """One or more values with commas between them."""

    of: Kind[T]

    @property
    def metavar(self) -> str:
        return f"{self.of.metavar}[,{self.of.metavar}...]"

    @property
    def choices(self) -> tuple[str, ...]:
        return self.of.choices

    def read(self, text: str) -> tuple[T, ...]:
        try:
            return tuple(self.of.read(part) for part in text.split(","))
        except ValueError as error:
            raise ValueError(f"{error}; several have commas between them") from None


def _at_least(least: int | None, number: int) -> int:
    if least is not None and number < least:
        raise ValueError(f"use at least {least}")
    return number

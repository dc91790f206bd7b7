"""Kinds of values on the command line. Each reads a value from text, and says what to give if the text is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=Enum)


@dataclass(frozen=True)
class Kind(Generic[T_co]):
    """A kind of value.

    metavar     the value's name in a command's help
    read        the value of a text; it raises ValueError whose text says what to give instead
    choices     all possible words, or () if they cannot be listed
    """

    metavar: str
    read: Callable[[str], T_co]
    choices: tuple[str, ...] = ()


def text(metavar: str = "TEXT") -> Kind[str]:
    """Any text."""
    return Kind(metavar, str)


def single(of: Kind[T]) -> Kind[tuple[T, ...]]:
    """One value, as a tuple: for a name that may be given again."""
    return Kind(of.metavar, lambda text: (of.read(text),), of.choices)


def path(metavar: str = "FILE") -> Kind[Path]:
    """A path, which need not exist."""

    def read(text: str) -> Path:
        if not text:
            raise ValueError("give a path")
        return Path(text)

    return Kind(metavar, read)


def whole(least: int | None = None, metavar: str = "N") -> Kind[int]:
    """A whole number."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("give a whole number") from None
        return _at_least(least, number)

    return Kind(metavar, read)


def tokens(metavar: str = "N", least: int | None = None) -> Kind[int]:
    """A number of tokens; 4k is 4096."""

    def read(text: str) -> int:
        try:
            number = int(text[:-1]) * 1024 if text[-1:] in ("k", "K") else int(text)
        except ValueError:
            raise ValueError("give a whole number of tokens, as 64 or 4k") from None
        return _at_least(least, number)

    return Kind(metavar, read)


def real(above: float = -math.inf) -> Kind[float]:
    """A number that is neither infinite nor NaN."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError("give a number")
        if not number > above:
            raise ValueError(f"use a number above {above:g}")
        return number

    return Kind("X", read)


def one_of(choices: tuple[str, ...], metavar: str = "NAME") -> Kind[str]:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"choose from {', '.join(choices)}")
        return text

    return Kind(metavar, read, choices)


def member(of: type[E]) -> Kind[E]:
    """A member of an enumeration by its value."""
    words = one_of(tuple(str(member.value) for member in of), "WAY")
    return Kind(words.metavar, lambda text: of(words.read(text)), words.choices)


def commas(of: Kind[T]) -> Kind[tuple[T, ...]]:
    """One or more values with commas between them."""

    def read(text: str) -> tuple[T, ...]:
        try:
            return tuple(of.read(part) for part in text.split(","))
        except ValueError as error:
            raise ValueError(f"{error}; several have commas between them") from None

    return Kind(f"{of.metavar}[,{of.metavar}...]", read, of.choices)


def _at_least(least: int | None, number: int) -> int:
    if least is not None and number < least:
        raise ValueError(f"use at least {least}")
    return number

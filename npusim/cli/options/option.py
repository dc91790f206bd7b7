"""Options: their arguments as data, and the typed value that was given for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from npusim.cli.options.argument import Argument, File, Form
from npusim.cli.options.kinds import Kind
from npusim.cli.options.outputs import Output, check_outputs
from npusim.errors import UsageError

T = TypeVar("T")
Words = Mapping[str, Any]
"""What was given on the command line, by Argument.key: a text, True for a flag, a list of texts for a repeated one."""


class Option(Generic[T]):
    """One thing that the caller of a command can choose. It does not change."""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments that it consists of."""
        raise NotImplementedError

    def value(self, words: Words) -> T:
        """The value that was given, or the default. Raises UsageError for a value that it cannot have."""
        raise NotImplementedError

    def inputs(self, value: T) -> tuple[Path, ...]:
        """Files that are read because of `value`, which no output may replace."""
        return ()

    def outputs(self, value: T) -> tuple[Output, ...]:
        """Files and directories that are written because of `value`, which are checked before the work starts."""
        return ()


class Required(Enum):
    """In place of a default: the option must be given."""

    REQUIRED = "required"


REQUIRED = Required.REQUIRED


@dataclass(frozen=True)
class Value(Option[T]):
    """A name followed by a word, or a positional word.

    default_words   the default in the help, if the value itself says too little
    repeats         whether the name may be given again, which adds to a tuple; otherwise the last one counts
    """

    names: tuple[str, ...]
    help: str
    kind: Kind[T]
    default: T | Required = REQUIRED
    note: str = ""
    metavar: str = ""
    default_words: str = ""
    aliases: tuple[str, ...] = ()
    repeats: bool = False
    file: File | None = None

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return (self.argument,)

    @property
    def argument(self) -> Argument:
        """Its only argument."""
        return Argument(
            self.names,
            self.help,
            self.note,
            metavar=self.metavar or self.kind.metavar,
            form=Form.REPEATED if self.repeats else Form.WORD,
            choices=self.kind.choices,
            default=self.default_words or _shown_default(self.default),
            required=self.default is REQUIRED,
            aliases=self.aliases,
            file=self.file,
        )

    def value(self, words: Words) -> T:
        key = self.argument.key
        if key not in words:
            assert self.default is not REQUIRED, f"the parser let {self.names} pass without a word"
            return self.default
        if self.repeats:
            return cast(T, tuple(chain.from_iterable(cast(Any, self._read(word)) for word in words[key])))
        return self._read(words[key])

    def _read(self, text: str) -> T:
        try:
            return self.kind.read(text)
        except ValueError as error:
            raise UsageError(f"{self.argument.name} is {_quoted(text)}: {error}") from None


@dataclass(frozen=True)
class Flag(Option[bool]):
    """A name without a word: on or off."""

    names: tuple[str, ...]
    help: str
    note: str = ""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return (Argument(self.names, self.help, self.note, form=Form.FLAG),)

    def value(self, words: Words) -> bool:
        return self.arguments[0].key in words


@dataclass(frozen=True)
class OnlyWith:
    """Options that do something only with the option `first`: without it, they are refused."""

    title: str
    first: Option[Any]
    others: tuple[Option[Any], ...]


Listed = Option[Any] | OnlyWith
"""An entry of a command's list of options."""


def flat(listed: Iterable[Listed]) -> Iterator[Option[Any]]:
    """Every option by itself."""
    for entry in listed:
        if isinstance(entry, OnlyWith):
            yield entry.first
            yield from entry.others
        else:
            yield entry


class Given:
    """The options of one call of a command: `given[OPTION]` is the option's typed value.

    Raises UsageError for values that an option refuses, for options that do nothing without another, and for outputs
    that cannot be written or would replace an input."""

    def __init__(self, listed: tuple[Listed, ...], words: Words) -> None:
        self._words = words
        for entry in listed:
            if isinstance(entry, OnlyWith) and not self.typed(entry.first):
                self.refuse(entry.others, f"without {entry.first.arguments[0].name}")
        self._values = {option: option.value(words) for option in flat(listed)}
        check_outputs(
            list(chain.from_iterable(option.outputs(value) for option, value in self._values.items())),
            list(chain.from_iterable(option.inputs(value) for option, value in self._values.items())),
        )

    def __getitem__(self, option: Option[T]) -> T:
        return cast(T, self._values[option])

    def typed(self, option: Option[Any]) -> bool:
        """Whether any of the option's arguments was given on the command line."""
        return any(argument.key in self._words for argument in option.arguments)

    def refuse(self, options: Iterable[Option[Any]], where: str) -> None:
        """Raises UsageError for the first argument of `options` that was given: it does nothing `where`."""
        for option in options:
            for argument in option.arguments:
                if argument.key in self._words:
                    raise UsageError(f"{argument.name} does nothing {where}: leave it out")


def _shown_default(default: object) -> str:
    if default is REQUIRED or default is None:
        return ""
    if isinstance(default, Enum):
        return str(default.value)
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _quoted(text: str) -> str:
    try:
        float(text)
    except ValueError:
        return repr(text)
    return text

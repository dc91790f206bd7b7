"""Standard output and standard error: a terminal, a pipe that closes early, a file on a full disk, or closed."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO
from unicodedata import category

from npusim.errors import UsageError

_ASCII = {"█": "#"}


def visible(text: str) -> str:
    """`text` with escapes for every character that a terminal acts on or does not show: line ends, control characters,
    marks that change the direction of writing, halves of surrogate pairs."""
    if text.isprintable():
        return text
    hidden = (category(c)[0] == "C" or c in "\u2028\u2029" for c in text)
    return "".join(_escape(c) if hide else c for c, hide in zip(text, hidden, strict=True))


def visible_lines(text: str) -> str:
    """`text` with line ends alone obeyed."""
    return "\n".join(map(visible, text.split("\n")))


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner with the text `what` on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(visible(what))):
        yield


def say(what: str) -> None:
    """Prints one line on standard error, if that can be written."""
    try:
        print(f"npusim: {visible(what)}", file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def prepare_streams() -> None:
    """Makes standard output and standard error accept every character: what their encoding lacks becomes an escape.

    Raises UsageError if standard output is closed."""
    _fill_closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  it stays open as long as the process runs
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    codecs.register_error("npusim", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="npusim")
    if sys.stdout is None:
        raise UsageError("standard output is closed: send it to a file, or to /dev/null")


def abandon(stream: TextIO) -> None:
    """Discards the rest of a stream that cannot be written, so that the interpreter does not try again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fill_closed() -> None:
    """Opens the null device for each closed standard stream, whose number the next opened file would get otherwise."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), "text is written with this handler, never read"
    return "".join(_ASCII.get(c) or _escape(c) for c in error.object[error.start : error.end]), error.end


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()

"""What every command is, and the few things that several need: consoles, a spinner, writing text."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from golden.whole import replacing
from npusim.errors import UsageError


class Command:
    """One subcommand. `summary` is its help, `example` a line that works."""

    name: ClassVar[str]
    summary: ClassVar[str]
    example: ClassVar[str]

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Adds this command's arguments."""
        raise NotImplementedError

    def run(self, options: argparse.Namespace) -> int:
        """Does the work and returns the exit code. Raises NpusimError or GoldenError for expected failures."""
        raise NotImplementedError


def console() -> Console:
    """Standard output, as wide as the terminal; a pipe gets plain text that is never cut."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=200)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on standard error while the block runs; nothing where that is not a terminal."""
    err = Console(stderr=True)
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, allow_nan=False))


def write_json(target: str, data: Any) -> None:
    """JSON into the file `target`, or printed where that is "-"."""
    if target == "-":
        print_json(data)
    else:
        write_whole(Path(target), (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


def check_writable(path: Path, *sources: Path) -> None:
    """Refuses an output in a directory that does not exist, or one that would overwrite a source, before the work is
    done."""
    if not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {path}: the directory {path.absolute().parent} does not exist")
    for source in sources:
        if path.absolute() == source.absolute():
            raise UsageError(f"cannot write {path}: it is also an input; give another name")


def write_whole(path: Path, data: bytes) -> None:
    """Writes `data` to `path` completely or not at all."""
    try:
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None

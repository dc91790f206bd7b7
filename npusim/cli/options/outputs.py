"""Checks outputs before the work starts, since that may take hours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npusim.errors import UsageError


@dataclass(frozen=True)
class Output:
    """A file that will be written whole, or a directory that will be created if it is missing.

    holds       suffix of the files that will be written into the directory, whose names are not known yet; "" for none
    """

    path: Path
    is_directory: bool = False
    holds: str = ""

    @property
    def place(self) -> str:
        """Its path with symbolic links followed."""
        return os.path.realpath(self.path)

    @property
    def is_stream(self) -> bool:
        """Whether it is a device or a pipe, which is written to and never replaced."""
        return os.path.exists(self.path) and not os.path.isfile(self.path) and not os.path.isdir(self.path)


def check_outputs(outputs: Sequence[Output], inputs: Sequence[Path] = ()) -> None:
    """Raises UsageError for an output that cannot be written, would replace an input, or is given twice."""
    taken: dict[str, Output] = {}
    for output in outputs:
        if output.is_stream:
            continue
        _check_place(output)
        if any(_is_same(output.place, source) for source in inputs):
            raise UsageError(f"cannot write {output.path}: it is also an input; give another name")
        if output.place in taken:
            raise UsageError(f"cannot write {output.path} twice: give each output a name of its own")
        taken[output.place] = output
    for place, output in taken.items():
        around = taken.get(os.path.dirname(place))
        if around is not None and around.holds and output.path.suffix == around.holds:
            raise UsageError(
                f"cannot write {output.path}: {around.path} will get {around.holds} files; choose another directory"
            )


def _check_place(output: Output) -> None:
    path, folder = output.path, os.path.dirname(output.place)
    if output.is_directory:
        folder = output.place
        while not os.path.exists(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            raise UsageError(f"cannot write {path}: {folder} is a file; choose another directory")
    elif os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a directory; give the name of a file")
    elif not os.path.isdir(folder):
        raise UsageError(f"cannot write {path}: the directory {folder} does not exist; create it")
    num_bytes, most = len(os.fsencode(path.name)), os.pathconf(folder, "PC_NAME_MAX")
    if num_bytes > most:
        raise UsageError(f"cannot write {path}: its name has {num_bytes} bytes, at most {most} are possible")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: you may not write into the directory {folder}; choose another")


def _is_same(place: str, source: Path) -> bool:
    try:
        return place == os.path.realpath(source) or os.path.samefile(place, source)
    except OSError:
        return False

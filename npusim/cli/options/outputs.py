"""Outputs are checked before the work starts, which may take hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npusim.errors import UsageError


@dataclass(frozen=True)
class Output:
    """A file that will be written whole, or a directory that will be made where it is missing.

    holds       suffix of the files that go into a directory under names that are not known yet; "" for none
    """

    path: Path
    is_directory: bool = False
    holds: str = ""

    @property
    def is_stream(self) -> bool:
        """Whether it is a device or a pipe, which is written to and never replaced."""
        return self.path.exists() and not self.path.is_file() and not self.path.is_dir()


def check_outputs(outputs: Sequence[Output], inputs: Sequence[Path] = ()) -> None:
    """Refuses an output that has no place, would replace an input, or is named twice. Raises UsageError."""
    taken: dict[Path, Output] = {}
    for output in outputs:
        if output.is_stream:
            continue
        _check_place(output)
        place = output.path.resolve()
        if any(place == source.resolve() or _is_same(place, source) for source in inputs):
            raise UsageError(f"cannot write {output.path}: it is also an input; give another name")
        if place in taken:
            raise UsageError(f"cannot write {output.path} twice: give each output a name of its own")
        taken[place] = output
    for place, output in taken.items():
        around = taken.get(place.parent)
        if around is not None and around.holds and place.suffix == around.holds:
            raise UsageError(f"cannot write {output.path}: {around.path} gets files of that kind; choose another place")


def _check_place(output: Output) -> None:
    path = output.path
    if not output.is_directory:
        if path.is_dir():
            raise UsageError(f"cannot write {path}: it is a directory; give the name of a file")
        folder = path.absolute().parent
        if not folder.is_dir():
            raise UsageError(f"cannot write {path}: the directory {folder} does not exist")
        return
    found = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not found.is_dir():
        raise UsageError(f"cannot write {path}: {found} is a file; choose another directory")


def _is_same(place: Path, source: Path) -> bool:
    try:
        return place.samefile(source)
    except OSError:
        return False

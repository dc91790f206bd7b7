"""Options that name files: inputs, outputs, JSON and pictures."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from golden.archive import archive_files
from golden.whole import replacing
from npusim.cli.options import kinds
from npusim.cli.options.argument import ALONE, Argument, File, Form
from npusim.cli.options.option import Option, Value, Words
from npusim.cli.options.outputs import Output
from npusim.errors import UsageError

T = TypeVar("T", Path, Path | None)
_PICTURE = ".png"
PICTURES = (_PICTURE, ".svg", ".pdf")
_STANDARD_OUTPUT = (ALONE, "/dev/stdout", "/dev/fd/1")


class InputFile(Value[T]):
    """A file that is read. Whether it can be read is checked by whoever opens it."""

    def __init__(self, names: tuple[str, ...], help: str, **more: Any) -> None:
        super().__init__(names, help, cast(Any, kinds.path()), file=File.INPUT, **more)

    def inputs(self, value: T) -> tuple[Path, ...]:
        return () if value is None else (value,)


class ArchiveInput(InputFile[Path]):
    """An archive of tensors, or another kind of file that the command takes in its place."""

    def inputs(self, value: Path) -> tuple[Path, ...]:
        return archive_files(value) if value.suffix == ".bin" else (value,)


class OutputFile(Value[T]):
    """A file that is written whole or not at all."""

    def __init__(self, names: tuple[str, ...], help: str, **more: Any) -> None:
        super().__init__(names, help, cast(Any, kinds.path()), file=File.OUTPUT, **more)

    def outputs(self, value: T) -> tuple[Output, ...]:
        return () if value is None else (Output(value),)


class ArchiveOutput(OutputFile[Path]):
    """An archive of tensors that is written: a .npz, or a .bin with its shape file."""

    def __init__(self, names: tuple[str, ...], help: str, note: str = "") -> None:
        super().__init__(names, help, note=note, metavar="OUT.npz")

    def outputs(self, value: Path) -> tuple[Output, ...]:
        return tuple(Output(path) for path in archive_files(value))


class OutputDirectory(Value[T]):
    """A directory that is created if it is missing."""

    def __init__(self, names: tuple[str, ...], help: str, **more: Any) -> None:
        super().__init__(names, help, cast(Any, kinds.path("DIR")), file=File.DIRECTORY, **more)

    def outputs(self, value: T) -> tuple[Output, ...]:
        return () if value is None else (Output(value, is_directory=True),)


@dataclass(frozen=True)
class JsonTarget:
    """Where a result is written as JSON: nowhere, to a file, or to standard output, where nothing else is printed
    then."""

    path: Path | None = None
    printed: bool = False

    def __bool__(self) -> bool:
        return self.printed or self.path is not None

    def write(self, data: Any) -> None:
        """Writes `data`, if JSON was asked for. Raises UsageError if the file cannot be written."""
        if not self:
            return
        import json  # imported only where JSON is written

        from golden.result import plain

        text = json.dumps(plain(data), indent=2, allow_nan=False)
        if self.path is None:
            print(text)
        else:
            write_whole(self.path, (text + "\n").encode())


@dataclass(frozen=True)
class JsonOutput(Option[JsonTarget]):
    """--json [FILE]."""

    note: str = ""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        meaning = "write the result as JSON to FILE, or print it if FILE is - or left out"
        return (Argument(("--json",), meaning, self.note, metavar="FILE", form=Form.MAYBE, file=File.OUTPUT),)

    def value(self, words: Words) -> JsonTarget:
        word = words.get("json")
        if word is None:
            return JsonTarget()
        if word in _STANDARD_OUTPUT:
            return JsonTarget(printed=True)
        if not word:
            raise UsageError("--json is '': give a path, or - for standard output")
        _refuse_other_content(Path(word))
        return JsonTarget(Path(word))

    def outputs(self, value: JsonTarget) -> tuple[Output, ...]:
        return () if value.path is None else (Output(value.path),)


class PlotOutput(OutputFile[Path | None]):
    """--plot FILE, for one picture."""

    def __init__(self, note: str) -> None:
        super().__init__(("--plot",), f"a picture ({', '.join(PICTURES)})", default=None, note=note)

    def value(self, words: Words) -> Path | None:
        path = super().value(words)
        if path is not None:
            if path.suffix not in PICTURES:
                raise UsageError(f"cannot draw {path}: the name must end with {', '.join(PICTURES)}")
            _require_matplotlib(self.argument.name)
        return path


class PlotDirectory(OutputDirectory[Path | None]):
    """--plot-dir DIR, for several pictures."""

    def __init__(self, note: str) -> None:
        super().__init__(("--plot-dir",), f"several pictures in a directory ({_PICTURE})", default=None, note=note)

    def value(self, words: Words) -> Path | None:
        directory = super().value(words)
        if directory is not None:
            _require_matplotlib(self.argument.name)
        return directory

    def outputs(self, value: Path | None) -> tuple[Output, ...]:
        return () if value is None else (Output(value, is_directory=True, holds=_PICTURE),)


def write_whole(path: Path, data: bytes) -> None:
    """Writes `data` to `path` completely or not at all. Raises UsageError."""
    if str(path) in _STANDARD_OUTPUT[1:]:  # if it were opened again, writing would start at its beginning
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return
    try:
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def write_pictures(directory: Path, pictures: Mapping[str, bytes]) -> None:
    """Writes each picture as NAME.png into `directory`, which is created if it is missing. Raises UsageError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create the directory {directory}: {error.strerror or error}") from None
    for name, data in pictures.items():
        write_whole(directory / f"{name}{_PICTURE}", data)


def _refuse_other_content(path: Path) -> None:
    """Raises UsageError for a file that holds no JSON: the word after --json may have been meant as another argument,
    and that file must not be overwritten."""
    if not os.path.isfile(path):
        return
    try:
        with path.open("rb") as file:
            head = file.read(64).strip()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
    if head and not head.startswith((b"{", b"[")):
        raise UsageError(f"cannot write {path}: the file exists and holds no JSON; give --json another name")


def _require_matplotlib(name: str) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f"{name} needs matplotlib, which is not installed: pip install matplotlib")

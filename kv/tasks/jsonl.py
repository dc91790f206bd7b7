"""Reads untrusted files with one JSON object on each line. Damaged lines are reported, and the others are used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kv.errors import KVError

MAX_LINE_BYTES = 64 << 20
"""Longer lines are refused. A context of InfiniteBench has up to about 10 MB."""


@dataclass
class JsonLines:
    """The content of a file.

    rows        (line number from 1, object) of each line that begins with a complete object
    damaged     (line number, what is wrong) of each damaged line
    """

    path: Path
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)

    def require(self, *names: str, **kinds: type | tuple[type, ...]) -> None:
        """Raises KVError, with the line number, if an object does not have one of the fields `names`, or has a field of
        another type than in `kinds`."""
        for number, row in self.rows:
            for name in names:
                if name not in row:
                    raise KVError(
                        f"{self.path.name}, line {number} has no field {name!r}: fields are "
                        f"{', '.join(sorted(row)) or 'none'}"
                    )
            for name, kind in kinds.items():
                if name in row and not isinstance(row[name], kind):
                    raise KVError(
                        f"{self.path.name}, line {number}: {name} is a {type(row[name]).__name__}: give a file of the "
                        "benchmark"
                    )


def read_jsonl(path: Path, max_rows: int | None = None) -> JsonLines:
    """Reads up to `max_rows` objects. A line with a complete object and something after it is kept and reported. Raises
    KVError if the file has no object or cannot be read."""
    found = JsonLines(path)
    decoder = json.JSONDecoder()
    try:
        for number, line in _lines(path):
            if len(found.rows) == max_rows:
                break
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if not text:
                    continue
                row, end = decoder.raw_decode(text)
            except (ValueError, RecursionError) as error:
                found.damaged.append((number, f"is not JSON: {error}"))
                continue
            if not isinstance(row, dict):
                found.damaged.append((number, f"holds a {type(row).__name__}, not an object"))
                continue
            if text[end:]:
                found.damaged.append((number, f"has {text[end:][:20]!r} after its object"))
            found.rows.append((number, row))
    except OSError as error:
        raise KVError(f"{path} cannot be read: {error.strerror or error}") from error
    if not found.rows:
        first = f"; line {found.damaged[0][0]} {found.damaged[0][1]}" if found.damaged else ""
        raise KVError(f"{path} holds no JSON object{first}: one is expected on each line")
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise KVError(
                    f"{path.name}, line {number} is longer than {MAX_LINE_BYTES >> 20} MiB: give a benchmark's file"
                )
            yield number, line

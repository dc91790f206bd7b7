"""A walk over the counts in a GGUF file, before the `gguf` library reads it: the library trusts them, and a false one costs all memory.

Layout: ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4


def check_counts(path: Path) -> None:
    """Raises ValueError when the file is not a little-endian GGUF 2 or 3, or a count leads beyond its end."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk = _Walk(data)
        magic, version = walk.read("<4sI")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"it begins with {magic!r} and version {version}, not with b'GGUF' and 2 or 3")
        num_tensors, num_fields = walk.read("<QQ")
        for _ in range(num_fields):
            walk.string()
            walk.value(*walk.read("<I"))
        for _ in range(num_tensors):
            walk.string()
            (num_dimensions,) = walk.read("<I")
            if num_dimensions > MAX_DIMENSIONS:
                raise ValueError(f"a tensor has {num_dimensions} dimensions, the most is {MAX_DIMENSIONS}")
            walk.skip(8 * num_dimensions + 4 + 8)


class _Walk:
    """A place in the file that never passes its end. Each step takes at least a byte, so that a walk is no longer than the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def skip(self, num_bytes: int) -> None:
        if num_bytes > len(self._data) - self._at:
            raise ValueError(f"it ends before the {num_bytes} bytes that are announced at {self._at}")
        self._at += num_bytes

    def read(self, form: str) -> tuple[Any, ...]:
        start = self._at
        self.skip(struct.calcsize(form))
        return struct.unpack_from(form, self._data, start)

    def string(self) -> None:
        self.skip(*self.read("<Q"))

    def value(self, kind: int) -> None:
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            item, count = self.read("<IQ")
            if item in SCALAR_BYTES:
                self.skip(SCALAR_BYTES[item] * count)
            elif item == STRING:
                for _ in range(count):
                    self.string()
            else:
                raise ValueError(f"an array holds values of kind {item}")
        elif kind in SCALAR_BYTES:
            self.skip(SCALAR_BYTES[kind])
        else:
            raise ValueError(f"a field holds a value of kind {kind}")

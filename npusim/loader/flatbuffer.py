"""A FlatBuffers reader for untrusted bytes. It checks every position; the flatbuffers library then decodes scalars.

Layout: flatbuffers.dev/internals. Tables can share children at no cost to the file, so a hostile file could make a
reader run for long or allocate much. A Reader therefore hands out at most a fixed multiple of the buffer's bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from flatbuffers import encode
from flatbuffers import number_types as kinds
from numpy.typing import NDArray

from npusim.errors import FileFormatError

_REREADS = 8
"""How often each byte may be read on average. Builders share little more than vtables and strings."""


class Reader:
    """One FlatBuffers buffer; `what` names it in messages."""

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self.data = memoryview(data)
        self.what = what
        self._left = _REREADS * len(data) + 1024

    def root(self, kind: str) -> Table:
        """The root table, called `kind` in messages."""
        return Table(self, self.offset(0), kind)

    def claim(self, at: int, nbytes: int, what: str) -> None:
        """Checks that `nbytes` bytes from `at` on lie in the buffer. Every read goes through here."""
        if at < 0 or nbytes < 0 or at + nbytes > len(self.data):
            raise FileFormatError(
                f"{self.what}: {what} at byte {at} with {nbytes} bytes lies outside the buffer's {len(self.data)} bytes"
            )
        self._left -= max(nbytes, 1)
        if self._left < 0:
            raise FileFormatError(
                f"{self.what}: its tables refer to the same bytes over and over (more than {_REREADS} times each)"
            )

    def scalar(self, kind: Any, at: int, what: str = "a number") -> Any:
        """A number of `kind` (a class of flatbuffers.number_types) at byte `at`."""
        self.claim(at, kind.bytewidth, what)
        return encode.Get(kind.packer_type, self.data, at)

    def offset(self, at: int, what: str = "an offset") -> int:
        """Position that the offset stored at `at` points to."""
        return at + int(self.scalar(kinds.UOffsetTFlags, at, what))


class Table:
    """One table. A field is named by its slot, its place in the schema's declaration, and by `name` for messages."""

    def __init__(self, reader: Reader, pos: int, kind: str) -> None:
        self._reader = reader
        self._pos = pos
        self.kind = kind
        self._vtable = pos - int(reader.scalar(kinds.SOffsetTFlags, pos, kind))
        self._vtable_bytes = int(reader.scalar(kinds.VOffsetTFlags, self._vtable, f"{kind}'s vtable"))
        reader.claim(self._vtable, self._vtable_bytes, f"{kind}'s vtable")

    def error(self, message: str) -> FileFormatError:
        """A FileFormatError that names this table and says `message`."""
        return FileFormatError(f"{self._reader.what}: {self.kind}: {message}")

    def scalar(self, slot: int, name: str, kind: Any, default: Any = 0) -> Any:
        """A number of `kind` (a class of flatbuffers.number_types), or `default` where the file leaves it out."""
        at = self._field(slot)
        return default if at is None else self._reader.scalar(kind, at, f"{self.kind}.{name}")

    def struct(self, slot: int, name: str, nbytes: int) -> bytes:
        """A struct of `nbytes`, which every file must hold."""
        at = self._required(slot, name)
        self._reader.claim(at, nbytes, f"{self.kind}.{name}")
        return bytes(self._reader.data[at : at + nbytes])

    def table(self, slot: int, name: str) -> Table | None:
        """The table in `slot`; None where the file leaves it out."""
        at = self._field(slot)
        return None if at is None else Table(self._reader, self._reader.offset(at), f"{self.kind}.{name}")

    def string(self, slot: int, name: str) -> str | None:
        """The text in `slot`; None where the file leaves it out."""
        at = self._field(slot)
        return None if at is None else self._string(self._reader.offset(at), name)

    def required_string(self, slot: int, name: str) -> str:
        """The text in `slot`. Raises FileFormatError where the file leaves it out."""
        return self._string(self._reader.offset(self._required(slot, name)), name)

    def required_table(self, slot: int, name: str) -> Table:
        """The table in `slot`. Raises FileFormatError where the file leaves it out."""
        return Table(self._reader, self._reader.offset(self._required(slot, name)), f"{self.kind}.{name}")

    def numbers(self, slot: int, name: str, dtype: str) -> NDArray:
        """A vector of numbers of `dtype` such as "<i8"; empty where the file leaves it out."""
        at = self._field(slot)
        if at is None:
            return np.zeros(0, dtype)
        start, count = self._vector(at, name, np.dtype(dtype).itemsize)
        return np.frombuffer(self._reader.data, dtype, count, start)

    def tables(self, slot: int, name: str) -> list[Table]:
        """The tables in the vector in `slot`; none where the file leaves it out."""
        return [Table(self._reader, pos, f"{self.kind}.{name}[{i}]") for i, pos in enumerate(self._offsets(slot, name))]

    def strings(self, slot: int, name: str) -> list[str]:
        """The texts in the vector in `slot`; none where the file leaves it out."""
        return [self._string(pos, name) for pos in self._offsets(slot, name)]

    def _offsets(self, slot: int, name: str) -> list[int]:
        at = self._field(slot)
        if at is None:
            return []
        start, count = self._vector(at, name, 4)
        return [self._reader.offset(start + 4 * i, f"{self.kind}.{name}[{i}]") for i in range(count)]

    def _vector(self, at: int, name: str, itemsize: int) -> tuple[int, int]:
        """(position, length) of the vector that the field at `at` points to, all of it inside the buffer."""
        start = self._reader.offset(at, f"{self.kind}.{name}")
        count = int(self._reader.scalar(kinds.UOffsetTFlags, start, f"{self.kind}.{name}'s length"))
        self._reader.claim(start + 4, count * itemsize, f"{self.kind}.{name}")
        return start + 4, count

    def _string(self, start: int, name: str) -> str:
        count = int(self._reader.scalar(kinds.UOffsetTFlags, start, f"{self.kind}.{name}'s length"))
        self._reader.claim(start + 4, count, f"{self.kind}.{name}")
        try:
            return str(self._reader.data[start + 4 : start + 4 + count], "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{name} is not UTF-8 text ({error.reason} at byte {error.start})") from None

    def _field(self, slot: int) -> int | None:
        """Position of the field in `slot`, or None where the file leaves it out."""
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_bytes:
            return None
        offset = int(self._reader.scalar(kinds.VOffsetTFlags, self._vtable + entry, f"{self.kind}'s vtable"))
        return self._pos + offset if offset else None

    def _required(self, slot: int, name: str) -> int:
        at = self._field(slot)
        if at is None:
            raise self.error(f"{name} is missing, but every cvimodel has it")
        return at

"""A descriptor's bit layout, declared once as a sequence of named fields; it decodes and encodes whole arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from npusim.errors import UsageError

Columns = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Field:
    """`width` bits of the descriptor, of which `lsb` is the lowest. Bit 0 is the lowest bit of the first little-endian
    word."""

    name: str
    lsb: int
    width: int

    @property
    def limit(self) -> int:
        return 1 << self.width


@dataclass(frozen=True)
class Layout:
    """The fields of one kind of descriptor, in order and without gaps."""

    name: str
    declaration: str
    """Text of `name:width` items, lowest bit first."""

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        fields, lsb = [], 0
        for item in self.declaration.split():
            name, width = item.split(":")
            fields.append(Field(name, lsb, int(width)))
            lsb += int(width)
        assert lsb % 32 == 0, f"{self.name}: {lsb} bits do not fill whole words"
        return tuple(fields)

    @cached_property
    def by_name(self) -> dict[str, Field]:
        return {f.name: f for f in self.fields}

    @property
    def num_bytes(self) -> int:
        last = self.fields[-1]
        return (last.lsb + last.width) // 8

    def decode(self, descriptors: NDArray[np.uint8]) -> Columns:
        """Fields of `descriptors` (uint8, shape (N, num_bytes)) as one int64 column of length N each."""
        return dict(zip(self.by_name, self.decode_table(descriptors), strict=True))

    def decode_table(self, descriptors: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The same fields as one int64 array of shape (fields, N)."""
        words = np.ascontiguousarray(descriptors).view("<u4").T.astype(np.uint64)
        pairs = words.copy()  # each word with the next one in the upper half, so that a field lies within one entry
        pairs[:-1] |= words[1:] << np.uint64(32)
        first, shift, mask = self._places
        table = pairs[first]
        table >>= shift
        table &= mask
        return table.view(np.int64)

    def column(self, descriptors: NDArray[np.uint8], name: str) -> NDArray[np.int64]:
        """One field of `descriptors` (uint8, shape (N, num_bytes)) as an int64 column of length N."""
        field = self.by_name[name]
        word, shift = divmod(field.lsb, 32)
        words = np.ascontiguousarray(descriptors).view("<u4")
        values = words[:, word].astype(np.int64)
        if shift + field.width > 32:
            values |= words[:, word + 1].astype(np.int64) << 32
        return values >> shift & field.limit - 1

    @cached_property
    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint64]]:
        """First word, shift and mask of every field, the latter two of shape (fields, 1)."""
        column = np.array([[f.lsb // 32, f.lsb % 32, f.limit - 1] for f in self.fields], np.uint64)
        return column[:, 0].astype(np.intp), column[:, 1:2], column[:, 2:]

    def encode(self, columns: Mapping[str, NDArray[np.int64]], count: int) -> NDArray[np.uint8]:
        """Inverse of decode: uint8 of shape (count, num_bytes). A field that is not in `columns` is zero.

        Raises UsageError for a name that is unknown or a value that does not fit its field.
        """
        self._require_known(columns)
        words = np.zeros((count, self.num_bytes // 4), np.int64)
        for name, column in columns.items():
            field, values = self.by_name[name], np.asarray(column, np.int64)
            bad = (values < 0) | (values >= field.limit)
            if bad.any():
                value = int(np.broadcast_to(values, (count,))[int(np.flatnonzero(np.broadcast_to(bad, (count,)))[0])])
                self._refuse(field, value)
            _insert(words, field, values)
        return words.astype("<u4").view(np.uint8).reshape(count, self.num_bytes)

    def encode_one(self, values: Mapping[str, int]) -> bytes:
        """One descriptor, as `encode` makes it of columns of length 1."""
        self._require_known(values)
        bits, fields = 0, self.by_name
        for name, value in values.items():
            field = fields[name]
            if not 0 <= value < field.limit:
                self._refuse(field, value)
            bits |= int(value) << field.lsb
        return bits.to_bytes(self.num_bytes, "little")

    def _require_known(self, names: Iterable[str]) -> None:
        unknown = sorted(set(names) - set(self.by_name))
        if unknown:
            raise UsageError(f"{self.name} descriptors have no field {unknown[0]!r}; give a name of the declaration")

    def _refuse(self, field: Field, value: int) -> NoReturn:
        raise UsageError(
            f"{self.name} field {field.name} is {value}, but it has {field.width} bits: give 0 to {field.limit - 1}"
        )


def _insert(words: NDArray[np.int64], field: Field, values: NDArray[np.int64]) -> None:
    word, shift = divmod(field.lsb, 32)
    words[:, word] |= (values << shift) & 0xFFFFFFFF
    if shift + field.width > 32:
        words[:, word + 1] |= values >> (32 - shift)

"""What comes before the tensors in a GGUF file: its fields, and where each tensor lies.

Layout: ggml-org/ggml, docs/gguf.md. The `gguf` library's own reader trusts the counts, so a false one can cost all
memory, and it makes four arrays for each string of a vocabulary. This one never passes the end of the file."""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class TensorPlace:
    """Where one tensor lies. `shape` is in NumPy's order.

    Rows of row_bytes begin at `offset`, which counts from the beginning of the file."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    row_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What the header says. Values of fields are str, int, float, bool or a list of one of these."""

    fields: dict[str, Any]
    tensors: dict[str, TensorPlace]


def read_header(path: Path) -> GgufHeader:
    """The header of an open file.

    Raises ValueError when the file is not a little-endian GGUF 2 or 3, a count or tensor leads beyond its end, or a
    name comes twice."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk = _Walk(data)
        magic, version = walk.read("<4sI")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"it begins with {magic!r} and version {version}, not with b'GGUF' and 2 or 3")
        num_tensors, num_fields = walk.read("<QQ")
        fields: dict[str, Any] = {}
        for _ in range(num_fields):
            _add(fields, walk.string(), walk.value(*walk.read("<I")))
        places: dict[str, TensorPlace] = {}
        for _ in range(num_tensors):
            _add(places, *_tensor(walk))
        return GgufHeader(fields, _moved(places, _beginning(walk.at, fields), len(data)))


def _tensor(walk: _Walk) -> tuple[str, TensorPlace]:
    name = walk.string()
    (num_dimensions,) = walk.read("<I")
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise ValueError(f"tensor {name} has {num_dimensions} dimensions, from 1 to {MAX_DIMENSIONS} are possible")
    *sizes, number, offset = walk.read(f"<{num_dimensions}QIQ")
    kind = GGMLQuantizationType(number)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if sizes[0] % block:
        raise ValueError(f"rows of {sizes[0]} values of tensor {name} are no whole blocks of {block}")
    return name, TensorPlace(tuple(reversed(sizes)), kind, offset, sizes[0] // block * block_bytes)


def _beginning(header_end: int, fields: dict[str, Any]) -> int:
    """Where the tensors' data begins."""
    alignment = fields.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"its alignment is {alignment!r}")
    return -(-header_end // alignment) * alignment


def _moved(places: dict[str, TensorPlace], beginning: int, num_bytes: int) -> dict[str, TensorPlace]:
    """The tensors with offsets from the beginning of the file instead of the beginning of the data."""
    moved = {}
    for name, place in places.items():
        offset = beginning + place.offset
        if offset + math.prod(place.shape[:-1]) * place.row_bytes > num_bytes:
            raise ValueError(f"tensor {name} of shape {place.shape} does not fit in the file")
        moved[name] = TensorPlace(place.shape, place.kind, offset, place.row_bytes)
    return moved


def _add(known: dict[str, Any], name: str, value: Any) -> None:
    if name in known:
        raise ValueError(f"{name} stands in it twice")
    known[name] = value


class _Walk:
    """A place in the file that never passes its end.

    Each step takes at least a byte, so a walk is no longer than the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 0

    def take(self, num_bytes: int) -> int:
        """Goes on by `num_bytes` and returns where they begin."""
        start = self.at
        if num_bytes > len(self._data) - start:
            raise ValueError(f"it ends before the {num_bytes} bytes that are announced at {start}")
        self.at += num_bytes
        return start

    def read(self, form: str) -> tuple[Any, ...]:
        return struct.unpack_from(form, self._data, self.take(struct.calcsize(form)))

    def string(self) -> str:
        start = self.take(*self.read("<Q"))
        return self._data[start : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind in SCALARS:
            return self.read(SCALARS[kind])[0]
        if kind != ARRAY:
            raise ValueError(f"a field holds a value of kind {kind}")
        item, count = self.read("<IQ")
        if item == STRING:
            return [self.string() for _ in range(count)]
        if item not in SCALARS:
            raise ValueError(f"an array holds values of kind {item}")
        form = SCALARS[item]
        start = self.take(struct.calcsize(form) * count)
        return list(struct.unpack_from(f"<{count}{form[1]}", self._data, start))

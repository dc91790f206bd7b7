"""The .cvimodel container: header, FlatBuffers description, sections.

The header is the magic "CviModel", the description's size (u32), major and minor version (u8 each) and the md5 of
all that follows the header; from version 1.1 on also the chip's name in 16 bytes and two bytes of padding. The
description follows, then the sections, whose offsets count from the end of the description. Nothing in a file is
ever run as native code. Source: sophgo/cviruntime include/runtime/model.hpp and src/common/model.cpp."""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from npusim.chip import Chip, chip_named
from npusim.errors import FileFormatError, Md5Warning, NpusimError, UsageError
from npusim.loader.cvimodel_tables import read_model
from npusim.loader.cvimodel_types import Cvimodel, Section
from npusim.loader.file_bytes import FileBytes

MAGIC = b"CviModel"
MAX_SECTION_BYTES = 1 << 29
READ_BYTES = 1 << 18
"""A large file is read in pieces of this size."""
_OLD_NAMES = {"mars": "cv181x"}
"""What compilers of 2022 call a chip."""
_LZ4_MAX_RATIO = 255
_MINOR_VERSION = 4
_UNSIGNED_PADDING = b"AA"
"""Header padding of files that cvimodel_tool merged, encrypted or compressed. The tool leaves their md5
uninitialised (tool/cvimodel_tool.cpp)."""


def load_cvimodel(path: str | Path, *, verify_md5: bool = True) -> Cvimodel:
    """Reads the .cvimodel at `path`. An md5 that does not fit is a Md5Warning; `verify_md5=False` does not look.

    Raises FileFormatError for a damaged file, UsageError for one that cannot be opened."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return parse_cvimodel(data, verify_md5=verify_md5, name=path)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None


@contextmanager
def open_cvimodel(path: str | Path, *, verify_md5: bool = True) -> Iterator[Cvimodel]:
    """As load_cvimodel, but sections are read from the file whenever they are asked for, inside the block only.

    NpusimErrors that leave the block get the path in front."""
    try:
        with open(path, "rb") as file:
            yield parse_cvimodel(FileBytes(file), verify_md5=verify_md5, name=path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except NpusimError as error:
        error.args = (f"{path}: {error}", *error.args[1:])
        raise


def parse_cvimodel(
    data: bytes | bytearray | memoryview | FileBytes, *, verify_md5: bool = True, name: str | Path = "the cvimodel"
) -> Cvimodel:
    """Parses a whole .cvimodel and checks every offset. Raises FileFormatError.

    An md5 that does not fit is a Md5Warning that starts with `name`: the vendor's runtime runs such a file, and there
    are many that were edited after compilation. `verify_md5=False` does not look."""
    view = data if isinstance(data, FileBytes) else memoryview(data).cast("B")
    chip, description_bytes, header_bytes = _parse_header(view)
    description_end = header_bytes + description_bytes
    payload = view.behind(description_end) if isinstance(view, FileBytes) else view[description_end:]
    model = read_model(chip, view[header_bytes:description_end], payload)
    for section in model.sections:
        _check_section(section, len(model.payload))
    if verify_md5:
        _warn_of_md5(view, header_bytes, name)
    return model


def _parse_header(view: memoryview | FileBytes) -> tuple[Chip, int, int]:
    """(chip, bytes of the description, bytes of the header)."""
    if len(view) < 32 or bytes(view[:8]) != MAGIC:
        raise FileFormatError(
            f"it starts with {bytes(view[:8])!r}, but a cvimodel has a header of 32 bytes or more from {MAGIC!r} on"
        )
    description_bytes, major, minor = struct.unpack_from("<IBB", view[:32], 8)
    if major != 1 or minor > _MINOR_VERSION:
        raise FileFormatError(
            f"cvimodel version {major}.{minor} is not supported; versions 1.0 to 1.{_MINOR_VERSION} are"
        )
    header_bytes = 48 if minor else 32
    if header_bytes + description_bytes > len(view):
        raise FileFormatError(
            f"{header_bytes} bytes of header and {description_bytes} of description do not fit the file's "
            f"{len(view)} bytes; it is cut off"
        )
    chip_name = bytes(view[30:46]).rstrip(b"\0").decode("ascii", "backslashreplace") if minor else "cv183x"
    try:
        return chip_named(_OLD_NAMES.get(chip_name, chip_name)), description_bytes, header_bytes
    except UsageError as error:
        raise FileFormatError(str(error)) from None


def _warn_of_md5(view: memoryview | FileBytes, header_bytes: int, name: str | Path) -> None:
    if header_bytes > 32 and bytes(view[46:48]) == _UNSIGNED_PADDING:
        return
    stated, digest = bytes(view[14:30]).hex(), hashlib.md5(usedforsecurity=False)
    for start in range(header_bytes, len(view), READ_BYTES):
        digest.update(view[start : start + READ_BYTES])
    if digest.hexdigest() != stated:
        sentence = f"{name}: md5 of its content is {digest.hexdigest()}, but its header says {stated}: "
        warnings.warn(f"{sentence}it is damaged or was edited", Md5Warning, stacklevel=3)


def _check_section(section: Section, payload_bytes: int) -> None:
    if section.offset + section.num_bytes > payload_bytes:
        raise FileFormatError(
            f"section {section.name!r} ends at byte {section.offset + section.num_bytes} of the sections, "
            f"but the file holds {payload_bytes} bytes of them"
        )
    limit = min(MAX_SECTION_BYTES, _LZ4_MAX_RATIO * section.num_bytes)
    if section.decompressed_bytes > limit:
        raise FileFormatError(
            f"section {section.name!r} would decompress from {section.num_bytes} to {section.decompressed_bytes} "
            f"bytes, but at most {limit} are allowed"
        )

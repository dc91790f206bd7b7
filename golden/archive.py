"""Reads and writes sets of named tensors: .npz, and raw .bin with a shape file beside it.

Files are untrusted. Nothing is unpickled, memory grows only with the bytes that are really there, and a damaged file
raises GoldenError. A file is written whole or not at all. bf16 is stored as uint16 bit patterns, as the vendor does."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from golden.errors import GoldenError
from golden.values import Array
from golden.whole import replacing

MAX_BYTES = 4 << 30
"""The most bytes that an archive may have when unpacked, unless the reader is told otherwise."""

_MAX_SHAPE_FILE_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip; with a fixed time, equal tensors give equal files
# What zipfile, zlib, json and NumPy's header parser raise on damaged files.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError),
    *(ValueError, TypeError, RuntimeError, MemoryError, OverflowError, SyntaxError, tokenize.TokenError),
)
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_archive(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> dict[str, Array]:
    """The tensors of a .npz, or of a .bin with its shape file, as {name: array}.

    They come in the file's order and in native byte order. Raises GoldenError."""
    return _by_suffix(Path(path), {".npz": read_npz, ".bin": read_bin})(Path(path), max_bytes)


def write_archive(path: str | os.PathLike[str], tensors: Mapping[str, Array]) -> None:
    """Writes a .npz, or a .bin and its shape file, whole or not at all. Raises GoldenError."""
    _by_suffix(Path(path), {".npz": write_npz, ".bin": write_bin})(Path(path), tensors)


def read_npz(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Array]:
    """The tensors of a .npz, as read_archive gives them."""
    tensors: dict[str, Array] = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > max_bytes:
            raise GoldenError(f"{path} unpacks to {total} bytes: at most {max_bytes} are allowed")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in tensors:
                raise GoldenError(
                    f"{path} holds {member.filename!r}: every member must be one .npy array with a name of its own"
                )
            tensors[name] = _read_npy(archive, member, f"{path}: tensor {name}")
    return tensors


def write_npz(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a .npz, whole or not at all. Equal tensors give equal files. Raises GoldenError."""
    arrays = _storable(tensors)
    with _replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _EARLIEST)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def shape_file(path: Path) -> Path:
    """Where the shapes of a .bin are kept: NAME.bin.json.

    It holds a list of {"name", "dtype", "shape"} in the order of the bytes."""
    return path.with_name(path.name + ".json")


def archive_files(path: Path) -> tuple[Path, ...]:
    """The files of an archive with this name. Raises GoldenError for a name that no archive can have."""
    files: tuple[Path, ...] = _by_suffix(path, {".npz": (path,), ".bin": (path, shape_file(path))})
    return files


def read_bin(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Array]:
    """The tensors of a raw .bin, as its shape file lists them.

    Elements are little-endian and in C order, one tensor after the other."""
    entries = _read_shapes(shape_file(path))
    tensors: dict[str, Array] = {}
    with _reading(path), open(path, "rb") as file:
        needed, size = sum(_num_bytes(dtype, shape) for _, dtype, shape in entries), os.fstat(file.fileno()).st_size
        if needed != size or size > max_bytes:
            raise GoldenError(
                f"{path} has {size} bytes: its shape file asks for {needed}, and at most {max_bytes} are allowed"
            )
        for name, dtype, shape in entries:
            data = np.frombuffer(bytearray(file.read(_num_bytes(dtype, shape))), dtype.newbyteorder("<"))
            tensors[name] = data.reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    return tensors


def write_bin(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a raw .bin and its shape file, whole or not at all. Raises GoldenError."""
    import json

    arrays = _storable(tensors)
    entries = [{"name": name, "dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()]
    with _replacing(path) as file:
        for array in arrays.values():
            file.write(array.astype(array.dtype.newbyteorder("<")).tobytes())
        file.flush()
        with _replacing(shape_file(path)) as shapes:
            shapes.write(json.dumps(entries, indent=1).encode())


def _by_suffix(path: Path, choices: dict[str, Any]) -> Any:
    if path.suffix not in choices:
        raise GoldenError(
            f"{path} is not an archive of tensors: its name must end in .npz, or in .bin with a shape file "
            f"{path.name}.json"
        )
    return choices[path.suffix]


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> Array:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _READERS:
            raise GoldenError(f"{what} has .npy version {version}: 1.0 and 2.0 are read")
        shape, fortran_order, dtype = _READERS[version](stream)
        _check_dtype(dtype, what)
        here = member.file_size - stream.tell()
        if _num_bytes(dtype, shape) != here:
            raise GoldenError(
                f"{what} claims shape {shape} of {dtype}, {_num_bytes(dtype, shape)} bytes: the archive holds {here}"
            )
        data = bytearray()
        while piece := stream.read(_PIECE_BYTES):  # memory grows only with the bytes that are really there
            data += piece
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_shapes(path: Path) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    import json

    with _reading(path):
        if path.stat().st_size > _MAX_SHAPE_FILE_BYTES:
            raise GoldenError(
                f"{path} has {path.stat().st_size} bytes: a shape file has at most {_MAX_SHAPE_FILE_BYTES}"
            )
        listed = json.loads(path.read_bytes())
        if not isinstance(listed, list):
            raise GoldenError(f"{path} must be a list of tensors in the order of the bytes")
        entries = [_shape_entry(entry, path) for entry in listed]
    if len({name for name, _, _ in entries}) != len(entries):
        raise GoldenError(f"{path} lists a tensor twice: names must differ")
    return entries


def _shape_entry(entry: Any, path: Path) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    match entry:
        case {"name": str(name), "dtype": str(dtype_name), "shape": list(shape)} if all(
            type(n) is int and n >= 0 for n in shape
        ):
            dtype = np.dtype("uint16" if dtype_name in ("bf16", "bfloat16") else dtype_name)
            _check_dtype(dtype, f"{path}: tensor {name}")
            return name, dtype, tuple(shape)
    raise GoldenError(
        f'{path} lists {entry}: each tensor must be {{"name": text, "dtype": text, "shape": [numbers from 0 up]}}'
    )


def _check_dtype(dtype: np.dtype[Any], what: str) -> None:
    if dtype.kind not in "biuf":
        raise GoldenError(
            f"{what} has dtype {dtype}: store bool, integers or floats, and bf16 as uint16 (array.view('uint16'))"
        )


def _num_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.itemsize


def _storable(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays in the form in which a file stores them. Raises GoldenError for those that cannot be stored."""
    arrays = {}
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        if array.dtype.name == "bfloat16":
            array = array.view(np.uint16)
        _check_dtype(array.dtype, f"tensor {name}")
        if not name or "\0" in name or not name.isprintable():
            raise GoldenError(f"tensor name {name!r} cannot be stored: it must be printable text")
        arrays[name] = array
    return arrays


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GoldenError(f"{path} cannot be read: {error.strerror or error}") from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise GoldenError(f"{path} is damaged or not an archive of tensors: {reason}") from None


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that replaces `path` if the block succeeds. Raises GoldenError if it cannot be written."""
    try:
        with replacing(path) as partial, open(partial, "wb") as file:
            yield file
    except OSError as error:
        raise GoldenError(f"{path} cannot be written: {error.strerror or error}") from None

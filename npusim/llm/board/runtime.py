"""libcviruntime through ctypes: one block of ION memory, command buffers that are loaded once, patched and run.

Part of a bundle that `npusim llm export` writes; standard library only, so that any Python 3.8 on a board runs it.
The calls are those of cviruntime's include/cviruntime_context.h.
"""

from __future__ import annotations

import ctypes as C
import io
import os
import struct
import zipfile
from typing import Any


class BoardError(Exception):
    """What a user can mend; its message is one sentence."""


_HEADER_BYTES, _TDMA_BYTES, _TDMA = 8, 64, 2


class ArrayBase(C.Structure):
    """CVI_RT_ARRAYBASE: what the eight base registers hold."""

    _fields_ = [(f"gaddr_base{i}", C.c_uint64) for i in range(8)]


def load_library(directory: str) -> Any:
    """The runtime, from `directory` or the system's library path. On a PC the vendor's functional model is beside it.
    Raises BoardError where it cannot be loaded."""
    library: Any = None
    for name in ("libcvicmodel.so", "libcvikernel.so", "libcviruntime.so"):
        try:
            library = C.CDLL(os.path.join(directory, name) if directory else name, mode=C.RTLD_GLOBAL)
        except OSError as error:
            if name != "libcvicmodel.so":  # a board has none
                where = f"in {directory}" if directory else "on the system's library path"
                raise BoardError(
                    f"{name} cannot be loaded {where} ({error}): give its directory with --lib or CVI_LIB"
                ) from None
    pointer, u64 = C.c_void_p, C.c_uint64
    signatures = {
        "CVI_RT_Init": (C.c_int, [C.POINTER(pointer)]),
        "CVI_RT_MemAlloc": (pointer, [pointer, u64]),
        "CVI_RT_MemGetPAddr": (u64, [pointer]),
        "CVI_RT_MemGetVAddr": (pointer, [pointer]),
        "CVI_RT_MemGetSize": (u64, [pointer]),
        "CVI_RT_MemFlush": (C.c_int, [pointer, pointer]),
        "CVI_RT_MemInvld": (C.c_int, [pointer, pointer]),
        "CVI_RT_LoadCmdbuf": (C.c_int, [pointer, C.c_char_p, u64, u64, u64, C.c_bool, C.POINTER(pointer)]),
        "CVI_RT_RunCmdbufEx": (C.c_int, [pointer, pointer, C.POINTER(ArrayBase)]),
    }
    for name, (result, arguments) in signatures.items():
        call = getattr(library, name)
        call.restype, call.argtypes = result, arguments
    return library


class Device:
    """One block of memory, addressed by offsets from its start, and the programs that work on it."""

    def __init__(self, library: Any, num_bytes: int) -> None:
        self._lib, self._handle = library, C.c_void_p()
        self._check(library.CVI_RT_Init(C.byref(self._handle)), "CVI_RT_Init")
        self._memory = library.CVI_RT_MemAlloc(self._handle, num_bytes)
        if not self._memory:
            raise BoardError(f"the board has no ION block of {num_bytes} bytes: enlarge ION in the image's memory map")
        self._at = library.CVI_RT_MemGetVAddr(self._memory)
        self._bases = ArrayBase(*[library.CVI_RT_MemGetPAddr(self._memory)] * 8)

    def write(self, addr: int, data: bytes) -> None:
        C.memmove(self._at + addr, data, len(data))

    def read(self, addr: int, num_bytes: int) -> bytes:
        return C.string_at(self._at + addr, num_bytes)

    def load(self, cmdbuf: bytes) -> tuple[Any, int]:
        """A program from a command buffer: its memory, and the address of its first TDMA descriptor there."""
        loaded, base = C.c_void_p(), self._bases.gaddr_base0
        self._check(
            self._lib.CVI_RT_LoadCmdbuf(self._handle, cmdbuf, len(cmdbuf), base, 0, False, C.byref(loaded)),
            "CVI_RT_LoadCmdbuf",
        )
        at, size = self._lib.CVI_RT_MemGetVAddr(loaded), self._lib.CVI_RT_MemGetSize(loaded)
        first, count = tdma_descriptors(cmdbuf)
        # The runtime moves TDMA descriptors behind all others and sets bits of their first word.
        place = C.string_at(at, size).find(first[4:]) - 4
        if count and place < 0:
            raise BoardError("the runtime keeps descriptors in a form that this program does not know")
        return loaded, at + place

    def patch(self, program: tuple[Any, int], number: int, offset: int, value: int) -> None:
        """Sets a 32-bit word, `offset` bytes into the program's TDMA descriptor `number`."""
        C.memmove(program[1] + number * _TDMA_BYTES + offset, struct.pack("<I", value), 4)

    def run(self, program: tuple[Any, int]) -> None:
        self._lib.CVI_RT_MemFlush(self._handle, program[0])
        self._lib.CVI_RT_MemFlush(self._handle, self._memory)
        self._check(self._lib.CVI_RT_RunCmdbufEx(self._handle, program[0], C.byref(self._bases)), "CVI_RT_RunCmdbufEx")
        self._lib.CVI_RT_MemInvld(self._handle, self._memory)

    @staticmethod
    def _check(code: int, call: str) -> None:
        if code:
            raise BoardError(f"{call} failed with code {code}")


def tdma_descriptors(cmdbuf: bytes) -> tuple[bytes, int]:
    """(first TDMA descriptor, how many there are) of a command buffer."""
    first, count, at = b"", 0, 0
    while at < len(cmdbuf):
        length, engine = cmdbuf[at + 1], cmdbuf[at + 2] & 15
        if engine == _TDMA:
            count += 1
            first = first or cmdbuf[at + _HEADER_BYTES : at + _HEADER_BYTES + length]
        at += _HEADER_BYTES + length
    return first, count


def write_npz(path: str, rows: list[bytes], width: int) -> None:
    """float32 [len(rows), width] as the array `logits` of an .npz; a row is bytes of bf16 numbers. Where there is no
    room for it, no file is left. Raises BoardError."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {width}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, archive.open("logits.npy", "w") as out:
        out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for row in rows:
            wide = bytearray(2 * len(row))
            wide[2::4], wide[3::4] = row[0::2], row[1::2]
            out.write(bytes(wide))
    try:
        with open(path, "wb") as file:
            file.write(packed.getvalue())
    except OSError as error:
        if os.path.isfile(path):
            os.unlink(path)
        raise BoardError(f"{path} cannot be written: {error.strerror or error}") from None

"""Command buffers: an 8-byte header, then a descriptor, again and again (cmd_hdr_t of wwwuxy/cvikernel src/cv181x/cvkcv181x.h)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import FileFormatError
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.opcodes import Engine

HEADER_BYTES = 8


@dataclass(frozen=True)
class Cmdbuf:
    """A command buffer taken apart. `tiu` and `tdma` are descriptors as uint8 rows; `*_index` is each one's place among all commands."""

    chip: Chip
    headers: NDArray[np.uint8]
    """Shape (commands, 8), verbatim."""
    tiu: NDArray[np.uint8]
    tiu_index: NDArray[np.int64]
    tdma: NDArray[np.uint8]
    tdma_index: NDArray[np.int64]

    @property
    def num_commands(self) -> int:
        return len(self.headers)


def parse_cmdbuf(chip: Chip, data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> Cmdbuf:
    """Splits `data` into commands. Raises FileFormatError that names the command, the byte and the rule."""
    raw = np.frombuffer(bytes(data), np.uint8)
    lengths = {Engine.TIU: tiu_layout(chip).num_bytes, Engine.TDMA: tdma_layout(chip).num_bytes}
    text = raw.tobytes()
    starts: dict[Engine, list[int]] = {Engine.TIU: [], Engine.TDMA: []}
    index: dict[Engine, list[int]] = {Engine.TIU: [], Engine.TDMA: []}
    headers, at, count = [], 0, 0
    while at < len(text):
        if at + HEADER_BYTES > len(text):
            raise FileFormatError(f"command {count} at byte {at}: the buffer ends inside its 8-byte header ({len(text) - at} left)")
        magic, length, engine = text[at], text[at + 1], text[at + 2] & 15
        if magic != chip.magic:
            raise FileFormatError(f"command {count} at byte {at}: magic {magic:#04x} is not {chip.name}'s {chip.magic:#04x}")
        if engine not in (Engine.TIU, Engine.TDMA):
            raise FileFormatError(f"command {count} at byte {at}: engine {engine} is neither TIU (0) nor TDMA (2)")
        if length != lengths[Engine(engine)]:
            raise FileFormatError(
                f"command {count} at byte {at}: a {Engine(engine).name} descriptor has {lengths[Engine(engine)]} bytes, not {length}"
            )
        if at + HEADER_BYTES + length > len(text):
            raise FileFormatError(f"command {count} at byte {at}: the buffer ends inside its descriptor")
        headers.append(at)
        starts[Engine(engine)].append(at + HEADER_BYTES)
        index[Engine(engine)].append(count)
        at += HEADER_BYTES + length
        count += 1
    return Cmdbuf(
        chip,
        _rows(raw, headers, HEADER_BYTES),
        _rows(raw, starts[Engine.TIU], lengths[Engine.TIU]),
        np.array(index[Engine.TIU], np.int64),
        _rows(raw, starts[Engine.TDMA], lengths[Engine.TDMA]),
        np.array(index[Engine.TDMA], np.int64),
    )


def write_cmdbuf(cmdbuf: Cmdbuf) -> bytes:
    """Inverse of parse_cmdbuf, byte for byte."""
    bodies: list[bytes] = [b""] * cmdbuf.num_commands
    for descriptors, index in ((cmdbuf.tiu, cmdbuf.tiu_index), (cmdbuf.tdma, cmdbuf.tdma_index)):
        for row, place in zip(descriptors, index.tolist(), strict=True):
            bodies[place] = row.tobytes()
    return b"".join(header.tobytes() + body for header, body in zip(cmdbuf.headers, bodies, strict=True))


def build_cmdbuf(chip: Chip, commands: list[tuple[Engine, bytes]]) -> bytes:
    """A command buffer of descriptors in program order, each with the header that cvikernel gives it."""
    return b"".join(bytes((chip.magic, len(body), engine, 0, 0, 0, 0, 0)) + body for engine, body in commands)


def _rows(raw: NDArray[np.uint8], starts: list[int], width: int) -> NDArray[np.uint8]:
    if not starts:
        return np.zeros((0, width), np.uint8)
    return raw[np.array(starts)[:, None] + np.arange(width)]

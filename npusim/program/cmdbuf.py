"""Command buffers: an 8-byte header, then a descriptor, again and again (cmd_hdr_t of wwwuxy/cvikernel
src/cv181x/cvkcv181x.h)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import FileFormatError
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.opcodes import Engine, PerEngine

HEADER_BYTES = 8


@dataclass(frozen=True)
class Cmdbuf:
    """A command buffer taken apart. `tiu` and `tdma` are descriptors as uint8 rows; `*_index` is each one's place among
    all commands."""

    chip: Chip
    headers: NDArray[np.uint8]
    """Shape (commands, 8), verbatim."""
    tiu: NDArray[np.uint8]
    tiu_index: NDArray[np.int64]
    tdma: NDArray[np.uint8]
    tdma_index: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"<Cmdbuf for {self.chip.name}: {len(self.tiu):,} TIU and {len(self.tdma):,} TDMA commands>"

    @property
    def num_commands(self) -> int:
        return len(self.headers)

    @property
    def index(self) -> PerEngine[NDArray[np.int64]]:
        return PerEngine(self.tiu_index, self.tdma_index)


def parse_cmdbuf(chip: Chip, data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> Cmdbuf:
    """Splits `data` into commands. Raises FileFormatError that names the command, the byte and the rule."""
    text = bytes(data)
    raw = np.frombuffer(text, np.uint8)
    widths: dict[int, int] = {Engine.TIU: tiu_layout(chip).num_bytes, Engine.TDMA: tdma_layout(chip).num_bytes}
    starts: dict[int, list[int]] = {Engine.TIU: [], Engine.TDMA: []}
    index: dict[int, list[int]] = {Engine.TIU: [], Engine.TDMA: []}
    headers: list[int] = []
    at, size = 0, len(text)
    while at < size:
        body = at + HEADER_BYTES
        engine = text[at + 2] & 15 if body <= size else -1
        width = widths.get(engine, -1)
        if width < 0 or text[at] != chip.magic or text[at + 1] != width or body + width > size:
            raise FileFormatError(f"command {len(headers)} at byte {at}: {_wrong_command(chip, text, at, widths)}")
        starts[engine].append(body)
        index[engine].append(len(headers))
        headers.append(at)
        at = body + width
    return Cmdbuf(
        chip,
        _rows(raw, headers, HEADER_BYTES),
        tiu=_rows(raw, starts[Engine.TIU], widths[Engine.TIU]),
        tiu_index=np.array(index[Engine.TIU], np.int64),
        tdma=_rows(raw, starts[Engine.TDMA], widths[Engine.TDMA]),
        tdma_index=np.array(index[Engine.TDMA], np.int64),
    )


def _wrong_command(chip: Chip, text: bytes, at: int, widths: dict[int, int]) -> str:
    """Which rule the command at `at` breaks."""
    if at + HEADER_BYTES > len(text):
        return f"the buffer ends inside its {HEADER_BYTES}-byte header ({len(text) - at} left)"
    magic, length, engine = text[at], text[at + 1], text[at + 2] & 15
    if magic != chip.magic:
        return f"magic {magic:#04x} is not {chip.name}'s {chip.magic:#04x}"
    if engine not in widths:
        return f"engine {engine} is neither TIU (0) nor TDMA (2)"
    if length != widths[engine]:
        return f"a {Engine(engine).name} descriptor has {widths[engine]} bytes, not {length}"
    return "the buffer ends inside its descriptor"


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
    return np.lib.stride_tricks.sliding_window_view(raw, width)[starts]

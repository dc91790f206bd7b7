"""The dmabuf: what the driver hands to the hardware (source: sophgo/cviruntime src/soc/*/bm_dmabuf.c,
src/soc/common/bm_types.h).

A header of 128 bytes, one CPU descriptor of 224 bytes a segment, the TIU descriptors of each segment from a 256-byte
boundary on with 128 zero bytes behind them, then all TDMA descriptors, 64 bytes each. The engines' ids start over in
each segment, so one ends behind the last id."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import FileFormatError
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.opcodes import Engine
from npusim.mem.lmem import align_up
from npusim.program.cmdbuf import HEADER_BYTES, Cmdbuf
from npusim.program.waits import ID_FIELD, LAST_ID, segment_lengths

MAGIC = 0xB5B5
_HEADER = struct.Struct("<HHIIIIIII")
_HEADER_BYTES = 128
_SEGMENT = struct.Struct("<7I196s")
_OP_SYNC = 2
_TIU_ALIGN = 256
_TIU_PADDING = 128
_LABEL = b"layer_end"


@dataclass(frozen=True)
class Segment:
    """Descriptors that run between two meetings of CPU and TPU; offsets are in bytes from the dmabuf's start."""

    num_tiu: int
    num_tdma: int
    tiu_offset: int
    tdma_offset: int


def write_dmabuf(cmdbuf: Cmdbuf) -> bytes:
    """The dmabuf that the vendor's runtime makes of `cmdbuf` before a relocation, byte for byte."""
    tiu, tdma = segment_lengths(cmdbuf)
    num_segments = len(tiu)
    tiu_rows, tdma_rows = _finish_tiu(cmdbuf, np.cumsum(tiu)), _finish_tdma(cmdbuf, np.cumsum(tdma))
    tiu_at = align_up(_HEADER_BYTES + num_segments * _SEGMENT.size, _TIU_ALIGN)
    tiu_starts = []
    for count in tiu:
        tiu_starts.append(tiu_at if count else 0)
        tiu_at = align_up(tiu_at + count * tiu_rows.shape[1] + _TIU_PADDING, _TIU_ALIGN) if count else tiu_at
    tdma_starts = np.where(tdma > 0, tiu_at + _before(tdma) * tdma_rows.shape[1], 0)

    out = np.zeros(tiu_at + tdma_rows.size, np.uint8)
    header = _HEADER.pack(
        MAGIC, cmdbuf.chip.dmabuf_magic, out.size, num_segments, len(tiu_rows), len(tdma_rows), 0, 0, 0
    )
    out[: len(header)] = np.frombuffer(header, np.uint8)
    for i, (num_tiu, num_tdma, start, done) in enumerate(zip(tiu, tdma, tiu_starts, _before(tiu), strict=True)):
        segment = _SEGMENT.pack(_OP_SYNC, num_tiu, num_tdma, start, tdma_starts[i], 0, 0, _LABEL)
        _put(out, _HEADER_BYTES + i * _SEGMENT.size, np.frombuffer(segment, np.uint8))
        _put(out, start, tiu_rows[done : done + num_tiu].reshape(-1))
    _put(out, tiu_at, tdma_rows.reshape(-1))
    return out.tobytes()


def parse_segments(chip: Chip, data: bytes | memoryview) -> list[Segment]:
    """The segments of a dmabuf for `chip`, in order, each inside `data`. Raises FileFormatError."""
    raw = memoryview(data)
    if len(raw) < _HEADER_BYTES:
        raise FileFormatError(f"a dmabuf has a header of {_HEADER_BYTES} bytes, but this one ends after {len(raw)}")
    magic, chip_magic, num_bytes, num_segments = _HEADER.unpack_from(raw)[:4]
    if magic != MAGIC or chip_magic != chip.dmabuf_magic:
        raise FileFormatError(
            f"dmabuf magic is {magic:#06x} {chip_magic:#06x}, but {chip.name}'s is {MAGIC:#06x} "
            f"{chip.dmabuf_magic:#06x}"
        )
    if num_bytes > len(raw) or _HEADER_BYTES + num_segments * _SEGMENT.size > num_bytes:
        raise FileFormatError(
            f"dmabuf of {num_bytes} bytes with {num_segments} segments does not fit the {len(raw)} bytes given"
        )
    segments = []
    for i in range(num_segments):
        _, tiu, tdma, tiu_at, tdma_at, tiu_kept, tdma_kept, _ = _SEGMENT.unpack_from(
            raw, _HEADER_BYTES + i * _SEGMENT.size
        )
        # The upper halves of the counts are the CPU's own; a relocation moves the offsets to the backup words and puts
        # addresses in place.
        segment = Segment(tiu & 0xFFFF, tdma & 0xFFFF, tiu_kept or tiu_at, tdma_kept or tdma_at)
        _check_span(i, "TIU", segment.num_tiu, tiu_layout(chip).num_bytes, at=segment.tiu_offset, limit=num_bytes)
        _check_span(i, "TDMA", segment.num_tdma, tdma_layout(chip).num_bytes, at=segment.tdma_offset, limit=num_bytes)
        segments.append(segment)
    return segments


def parse_dmabuf(chip: Chip, data: bytes | memoryview) -> list[Cmdbuf]:
    """One Cmdbuf a segment of a dmabuf for `chip`, to be run one after the other. Raises FileFormatError.

    The order among the two engines is not stored in a dmabuf; in what this returns all TIU commands stand in front, but
    behind the TDMA's where the last of them has the last id, which ends a segment.
    What the conversion set (the end, interrupt and barrier bits and the numbers of the TIU words) stays set."""
    raw = np.frombuffer(data, np.uint8)
    return [_cmdbuf_of(chip, raw, segment) for segment in parse_segments(chip, data)]


def _cmdbuf_of(chip: Chip, raw: NDArray[np.uint8], segment: Segment) -> Cmdbuf:
    tiu = _rows(raw, segment.tiu_offset, segment.num_tiu, tiu_layout(chip).num_bytes)
    tdma = _rows(raw, segment.tdma_offset, segment.num_tdma, tdma_layout(chip).num_bytes)
    count = len(tiu) + len(tdma)
    tiu = _swap_words(tiu)
    ends_segment = LAST_ID in tiu_layout(chip).column(tiu[-1:], ID_FIELD[Engine.TIU])
    tiu_index = np.arange(len(tiu)) + (len(tdma) if ends_segment else 0)
    tdma_index = np.arange(len(tdma)) + (0 if ends_segment else len(tiu))
    headers = np.zeros((count, HEADER_BYTES), np.uint8)
    headers[:, 0] = chip.magic
    headers[tiu_index, 1:3] = tiu.shape[1], Engine.TIU
    headers[tdma_index, 1:3] = tdma.shape[1], Engine.TDMA
    return Cmdbuf(chip, headers, tiu=tiu, tiu_index=tiu_index, tdma=tdma, tdma_index=tdma_index)


def _finish_tiu(cmdbuf: Cmdbuf, ends: NDArray[np.int64]) -> NDArray[np.uint8]:
    """TIU descriptors as the hardware reads them: the last one of a segment ends it, the 128-bit words are numbered,
    the last is first."""
    layout = tiu_layout(cmdbuf.chip)
    columns = layout.decode(cmdbuf.tiu)
    last = np.unique(ends[ends > 0]) - 1
    columns["cmd_end"][last] = columns["cmd_intr_en"][last] = 1
    rows = layout.encode(columns, len(cmdbuf.tiu))
    words = _words(rows)
    words[:, :, 15] |= np.arange(words.shape[1], dtype=np.uint8) << 4
    return _swap_words(rows)


def _finish_tdma(cmdbuf: Cmdbuf, ends: NDArray[np.int64]) -> NDArray[np.uint8]:
    """TDMA descriptors with the barrier set, the last one of a segment also with its end and interrupt bits."""
    layout = tdma_layout(cmdbuf.chip)
    columns = layout.decode(cmdbuf.tdma)
    last = np.unique(ends[ends > 0]) - 1
    columns["eod"][last] = columns["intp_en"][last] = 1
    columns["bar_en"][:] = 1
    return layout.encode(columns, len(cmdbuf.tdma))


def _swap_words(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first and the last 128-bit word of each descriptor exchanged, since the hardware wants the last one first."""
    last = rows.shape[1] // 16 - 1
    return _words(rows)[:, [last, *range(1, last), 0]].reshape(rows.shape)


def _words(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Descriptors as 128-bit words: a view of shape (descriptors, words, 16)."""
    return rows.reshape(len(rows), rows.shape[1] // 16, 16)


def _before(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many stand in front of each run."""
    return np.cumsum(counts) - counts


def _put(out: NDArray[np.uint8], at: int, values: NDArray[np.uint8]) -> None:
    out[at : at + values.size] = values


def _rows(raw: NDArray[np.uint8], at: int, count: int, width: int) -> NDArray[np.uint8]:
    return raw[at : at + count * width].reshape(count, width)


def _check_span(index: int, engine: str, count: int, width: int, *, at: int, limit: int) -> None:
    if count and at + count * width > limit:
        raise FileFormatError(
            f"dmabuf segment {index}: {count} {engine} descriptors from byte {at} on leave the dmabuf's {limit} bytes"
        )

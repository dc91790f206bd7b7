"""Command buffers and dmabufs survive reading and writing byte for byte; conversion gives the bytes of the vendor's."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import CHIPS, Chip, FileFormatError, chip_named
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import SectionType
from npusim.program.cmdbuf import parse_cmdbuf, write_cmdbuf
from npusim.program.dmabuf import parse_dmabuf, write_dmabuf
from npusim.program.waits import LAST_ID

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
VENDOR_MD5 = json.loads((Path(__file__).parent / "dmabuf_md5.json").read_text(encoding="utf-8"))
"""Sample and number of its section -> md5 of what bmk1822_dmabuf_convert or bmk1880v2_dmabuf_convert (libcvikernel)
makes of it."""


def samples() -> dict[str, tuple[Chip, bytes]]:
    out = {}
    for path in sorted(DATA.glob("*.cvimodel")):
        model = load_cvimodel(path)
        buffers = [bytes(model.section_bytes(s)) for s in model.sections if s.kind == SectionType.CMDBUF]
        out |= {f"{path.stem}/{i}": (model.chip, data) for i, data in enumerate(buffers)}
    return out


SAMPLES = samples()


def with_segments(chip: Chip, data: bytes) -> bytes:
    """`data` with id 0xFFFF given to one TDMA and one TIU command, which ends a segment behind each."""
    cmdbuf = parse_cmdbuf(chip, data)
    for layout, rows, name in (
        (tdma_layout(chip), cmdbuf.tdma, "cmd_id"),
        (tiu_layout(chip), cmdbuf.tiu, "cmd_id_tpu"),
    ):
        columns = layout.decode(rows)
        columns[name][len(rows) // 3] = LAST_ID
        rows[...] = layout.encode(columns, len(rows))
    return write_cmdbuf(cmdbuf)


@pytest.mark.parametrize("name", SAMPLES)
def test_reading_and_writing_a_command_buffer_gives_the_same_bytes(name: str) -> None:
    chip, data = SAMPLES[name]
    cmdbuf = parse_cmdbuf(chip, data)
    assert write_cmdbuf(cmdbuf) == data
    for layout, rows in ((tiu_layout(chip), cmdbuf.tiu), (tdma_layout(chip), cmdbuf.tdma)):
        assert np.array_equal(layout.encode(layout.decode(rows), len(rows)), rows)


@pytest.mark.parametrize("segmented", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_dmabuf_is_the_vendors_behind_its_magic(name: str, segmented: bool) -> None:
    chip, data = SAMPLES[name]
    dmabuf = write_dmabuf(parse_cmdbuf(chip, with_segments(chip, data) if segmented else data))
    assert (
        hashlib.md5(dmabuf[4:], usedforsecurity=False).hexdigest()
        == VENDOR_MD5[name + ("/segmented" if segmented else "")]
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_a_dmabuf_holds_the_commands_of_its_command_buffer(name: str) -> None:
    chip, data = SAMPLES[name]
    cmdbuf = parse_cmdbuf(chip, with_segments(chip, data))
    segments = parse_dmabuf(chip, write_dmabuf(cmdbuf))
    assert len(segments) == 3
    marked = {"cmd_end", "cmd_intr_en", "eod", "intp_en", "bar_en", *(f"rsvd{i}" for i in range(7))}
    for layout, rows, back in (
        (tiu_layout(chip), cmdbuf.tiu, np.concatenate([s.tiu for s in segments])),
        (tdma_layout(chip), cmdbuf.tdma, np.concatenate([s.tdma for s in segments])),
    ):
        before, after = layout.decode(rows), layout.decode(back)
        assert all(np.array_equal(before[f], after[f]) for f in before if f not in marked)


@pytest.mark.parametrize("name", [n for n in SAMPLES if n.startswith("mlp")])
def test_a_relocated_dmabuf_reads_as_before(name: str) -> None:
    chip, data = SAMPLES[name]
    dmabuf = bytearray(write_dmabuf(parse_cmdbuf(chip, data)))
    plain = parse_dmabuf(chip, bytes(dmabuf))[0]
    tiu_at, tdma_at = struct.unpack_from("<II", dmabuf, 128 + 12)
    device = 0x8000_0000
    struct.pack_into("<IIII", dmabuf, 128 + 12, (device + tiu_at) >> 8, (device + tdma_at) >> 6, tiu_at, tdma_at)
    moved = parse_dmabuf(chip, bytes(dmabuf))[0]
    assert np.array_equal(moved.tiu, plain.tiu)
    assert np.array_equal(moved.tdma, plain.tdma)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_an_empty_command_buffer_has_no_segments(chip: Chip) -> None:
    assert parse_dmabuf(chip, write_dmabuf(parse_cmdbuf(chip, b""))) == []


@pytest.mark.parametrize(
    ("chip", "magic"), [("cv180x", 0x1822), ("cv181x", 0x1822), ("cv182x", 0x1822), ("cv183x", 0x1835)]
)
def test_the_dmabuf_magic_is_that_of_the_drivers_conversion(chip: str, magic: int) -> None:
    assert struct.unpack_from("<HH", write_dmabuf(parse_cmdbuf(chip_named(chip), b""))) == (0xB5B5, magic)


@settings(max_examples=200)
@given(at=st.integers(0, 700), value=st.integers(0, 255), length=st.integers(0, 3000))
def test_a_damaged_dmabuf_gives_commands_or_a_file_format_error(at: int, value: int, length: int) -> None:
    chip, data = SAMPLES["mlp_cv181x_int8/0"]
    dmabuf = bytearray(write_dmabuf(parse_cmdbuf(chip, data)))
    dmabuf[at] = value
    try:
        segments = parse_dmabuf(chip, bytes(dmabuf[: length or None]))
    except FileFormatError as error:
        assert "\n" not in str(error)
    else:
        assert all(s.tiu.shape[1] == 112 and s.tdma.shape[1] == 64 for s in segments)


@pytest.mark.parametrize(
    ("at", "value", "cut", "message"),
    [
        (0, 0xA5, 0, "command 0 at byte 0: magic 0xa5 is not cv181x's 0xa7"),
        (2, 1, 0, "command 0 at byte 0: engine 1 is neither TIU \\(0\\) nor TDMA \\(2\\)"),
        (1, 0x70, 0, "command 0 at byte 0: a TDMA descriptor has 64 bytes, not 112"),
        (0, 0xA7, 1, "command 0 at byte 0: the buffer ends inside its descriptor"),
        (0, 0xA7, 65, "the buffer ends inside its 8-byte header \\(7 left\\)"),
    ],
)
def test_a_damaged_command_is_named_with_its_byte_and_rule(at: int, value: int, cut: int, message: str) -> None:
    data = bytearray(SAMPLES["mlp_cv181x_int8/0"][1][:72])
    data[at] = value
    with pytest.raises(FileFormatError, match=message):
        parse_cmdbuf(chip_named("cv181x"), data[: 72 - cut])

"""Disassembly is text that assembles back to the same bytes, and errors in a text name its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import CHIPS, Chip, FileFormatError, chip_named
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.layout import Layout
from npusim.isa.opcodes import Engine
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import SectionType
from npusim.program.asm import assemble
from npusim.program.cmdbuf import build_cmdbuf, parse_cmdbuf
from npusim.program.decode import decode_cmdbuf
from npusim.program.disasm import disassemble, disassemble_json
from npusim.program.open import open_program

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
CHIP = chip_named("cv181x")


@st.composite
def any_cmdbuf(draw: st.DrawFn) -> tuple[Chip, bytes]:
    """One or two descriptors with any value in any field."""
    chip = draw(st.sampled_from(CHIPS))
    layouts: dict[Engine, Layout] = {Engine.TIU: tiu_layout(chip), Engine.TDMA: tdma_layout(chip)}
    engines = draw(st.lists(st.sampled_from([Engine.TIU, Engine.TDMA]), min_size=1, max_size=2))
    widths = [layouts[engine].num_bytes for engine in engines]
    return chip, build_cmdbuf(
        chip, [(e, draw(st.binary(min_size=n, max_size=n))) for e, n in zip(engines, widths, strict=True)]
    )


@settings(max_examples=150)
@given(any_cmdbuf())
def test_any_descriptor_survives_text_and_back(case: tuple[Chip, bytes]) -> None:
    chip, data = case
    (back,) = assemble(disassemble(parse_cmdbuf(chip, data)))
    assert (back.chip, back.data) == (chip, data)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.cvimodel")), ids=lambda p: p.stem)
def test_every_section_of_a_compiled_model_survives_text_and_back(path: Path) -> None:
    model = load_cvimodel(path)
    sections = {s.name: bytes(model.section_bytes(s)) for s in model.sections if s.kind == SectionType.CMDBUF}
    text = "".join(disassemble(parse_cmdbuf(model.chip, data), name) for name, data in sections.items())
    assert {part.section: part.data for part in assemble(text)} == sections


def test_a_header_that_differs_from_cvikernels_is_kept() -> None:
    data = bytearray(build_cmdbuf(CHIP, [(Engine.TDMA, bytes(64))]))
    data[3:8] = b"\x01\x02\x03\x04\x05"
    (back,) = assemble(disassemble(parse_cmdbuf(CHIP, data)))
    assert back.data == bytes(data)


def test_addresses_are_written_as_lane_bank_and_offset_or_behind_a_base_register() -> None:
    fields = {
        "src_base_reg_sel": 2,
        "src_base_addr_high": 1,
        "src_base_addr_low": 0x1200,
        "dst_base_addr_low": 3 * 32768 + 0x2040,
    }
    row = tdma_layout(CHIP).encode({name: np.array([value]) for name, value in fields.items()}, 1)
    text = disassemble(parse_cmdbuf(CHIP, build_cmdbuf(CHIP, [(Engine.TDMA, row.tobytes())])))
    assert "src.at=base2+0x100001200" in text
    assert "dst.at=lane3.bank2+0x040" in text


def test_json_holds_every_field_that_is_not_zero() -> None:
    model = load_cvimodel(DATA / "mlp_cv181x_int8.cvimodel")
    cmdbuf = parse_cmdbuf(
        model.chip, model.section_bytes(next(s for s in model.sections if s.kind == SectionType.CMDBUF))
    )
    objects = json.loads(json.dumps(disassemble_json(cmdbuf)))
    assert [o["index"] for o in objects] == list(range(cmdbuf.num_commands))
    columns = tdma_layout(model.chip).decode(cmdbuf.tdma)
    for row, index in enumerate(cmdbuf.tdma_index.tolist()):
        assert objects[index]["fields"] == {name: int(column[row]) for name, column in columns.items() if column[row]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiu_add", "line 1: a command stands in front of any .chip"),
        (".chip cv999x", "line 1: chip 'cv999x' is not known"),
        (".section a", "line 1: .section stands in front of any .chip"),
        (".chip cv181x\n.bank 3", "line 2: directive .bank is not known"),
        (".chip cv181x\nnop", "line 2: mnemonic 'nop' begins with neither tiu nor tdma"),
        (".chip cv181x\ntiu.unknown speed=3", "line 2: TIU descriptors have no field 'speed'"),
        (".chip cv181x\n; a comment\ntiu.unknown tsk_typ=16", "line 3: tsk_typ is 16, but it holds 4 bits"),
        (".chip cv181x\ntiu.unknown res0=1x2x3", "line 2: res0=1x2x3 has 3 numbers, but it must have 4"),
        (".chip cv181x\ntiu.unknown res0=1x2x3x4 res0_n=1", "line 2: res0_n is given twice"),
        (".chip cv181x\ntiu.unknown res0.at=lane0.bank9+0x000", "line 2: 'lane0.bank9\\+0x000' is no address"),
        (".chip cv181x\ntdma.unknown vld=-1", "line 2: '-1' is not a number"),
        (".chip cv181x\ntdma.unknown header=a570020000000000", "line 2: header=a570020000000000 contradicts"),
        (
            ".chip cv181x\ntiu_convolution tsk_typ=2",
            "line 2: it says tiu_convolution, but its fields make it tiu_matrix_multiplication",
        ),
    ],
)
def test_a_wrong_text_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        assemble(text)


@settings(max_examples=200)
@given(st.text(alphabet="tiudma.ch cv181x\n=0x;:reslanb+", max_size=80))
def test_any_text_is_assembled_or_refused(text: str) -> None:
    try:
        parts = assemble(".chip cv181x\n" + text)
    except FileFormatError as error:
        assert str(error).startswith("line ")
    else:
        counts = [parse_cmdbuf(part.chip, part.data).num_commands for part in parts]
        assert all(counts) or counts == [0], "directives alone are one empty command buffer"


@pytest.mark.parametrize("path", sorted(DATA.glob("mlp*.cvimodel")), ids=lambda p: p.stem)
def test_text_and_json_name_the_operands_that_each_instruction_declares(path: Path) -> None:
    """Also one of which every field is 0, as a tensor at the start of lane 0; and JSON says what each one is."""
    for cmdbuf in open_program(path).cmdbufs.values():
        decoded = {insn.index: insn for insn in decode_cmdbuf(cmdbuf)}
        for command in disassemble_json(cmdbuf):
            touched = [operand for operand, _ in decoded[command["index"]].touched()]
            assert {operand.name for operand in touched} <= set(command["operands"])
            assert {f"{operand.name}.at" for operand in touched} <= set(command["operands"])
            found = sorted((a["name"], a["role"], a["what"]) for a in command["accesses"])
            assert found == sorted((o.name, o.role.value, o.what) for o in touched)

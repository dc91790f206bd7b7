"""From a command buffer to text, one command a line, and to JSON. isa.asm turns the text back into the same bytes.

    .chip cv181x
    00000000: tdma_load  cmd_id=1 src_fmt=1 ... src=1x3x32x32 src.at=base1+0x1200 dst=3x32x32 dst.at=lane0.bank0+0x000

A line holds the command's offset, its mnemonic, the fields that are not at their default under their header's names,
and the operands (isa.forms). A command that no instruction matches is `tiu.unknown` or `tdma.unknown`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npusim.chip import Chip
from npusim.errors import IllegalInstruction
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.layout import Layout
from npusim.isa.opcodes import Engine
from npusim.isa.regs import TdmaRegs, TiuRegs, tdma_rows, tiu_rows
from npusim.program.cmdbuf import HEADER_BYTES, Cmdbuf
from npusim.program.decode import decode_tdma, decode_tiu
from npusim.program.forms import TDMA_FORMS, TIU_FORMS, Form, default_fields

_HEX_FIELDS = frozenset({"quan_m", "const_val", "opd0_ins_val", "opd0_ins_fp", "layer_info", "layer_ID"})


@dataclass(frozen=True)
class Command:
    """One command of a buffer in the words of its header file."""

    index: int
    offset: int
    """Of the command's header, in bytes from the buffer's start."""
    engine: Engine
    mnemonic: str
    fields: dict[str, int]
    """Every field of the descriptor."""
    header: bytes


def commands(cmdbuf: Cmdbuf) -> Iterator[Command]:
    """Every command of `cmdbuf`, in buffer order."""
    chip = cmdbuf.chip
    tiu, tdma = tiu_layout(chip), tdma_layout(chip)
    widths = np.full(cmdbuf.num_commands, tdma.num_bytes + HEADER_BYTES)
    widths[cmdbuf.tiu_index] = tiu.num_bytes + HEADER_BYTES
    offsets = (np.cumsum(widths) - widths).tolist()
    streams = {
        **_stream(
            Engine.TIU, tiu, cmdbuf.tiu, cmdbuf.tiu_index, [tiu_mnemonic(chip, r) for r in tiu_rows(chip, cmdbuf.tiu)]
        ),
        **_stream(
            Engine.TDMA,
            tdma,
            cmdbuf.tdma,
            cmdbuf.tdma_index,
            [tdma_mnemonic(chip, r) for r in tdma_rows(chip, cmdbuf.tdma)],
        ),
    }
    for index in range(cmdbuf.num_commands):
        engine, mnemonic, fields = streams[index]
        yield Command(
            index,
            offset=offsets[index],
            engine=engine,
            mnemonic=mnemonic,
            fields=fields,
            header=cmdbuf.headers[index].tobytes(),
        )


def disassemble(cmdbuf: Cmdbuf, section: str = "") -> str:
    """`cmdbuf` as text that npusim.program.asm.assemble turns back into the same bytes; `section` names it where there
    are several."""
    lines = [f".chip {cmdbuf.chip.name}"]
    if section:
        lines.append(f".section {section}")
    lines += [write_command(command, cmdbuf.chip) for command in commands(cmdbuf)]
    return "\n".join(lines) + "\n"


def disassemble_json(cmdbuf: Cmdbuf) -> list[dict[str, Any]]:
    """`cmdbuf` as JSON-ready objects: index, offset, engine, mnemonic, operands as in the text, and every field that is
    not 0."""
    out = []
    for command in commands(cmdbuf):
        operands = {
            form.key: form.write(command.fields, cmdbuf.chip)
            for form in _forms(command.engine)
            if _is_shown(form, command.fields)
        }
        out.append(
            {
                "index": command.index,
                "offset": command.offset,
                "engine": command.engine.name,
                "mnemonic": command.mnemonic,
                "operands": operands,
                "fields": {name: value for name, value in command.fields.items() if value},
            }
        )
    return out


def write_command(command: Command, chip: Chip) -> str:
    """One line of text."""
    layout = tiu_layout(chip) if command.engine == Engine.TIU else tdma_layout(chip)
    forms = _forms(command.engine)
    in_forms = {name for form in forms for name in form.fields}
    defaults = default_fields(layout)
    tokens = [
        f"{name}={value:#x}" if name in _HEX_FIELDS else f"{name}={value}"
        for name, value in command.fields.items()
        if value != defaults[name] and name not in in_forms
    ]
    tokens += [f"{form.key}={form.write(command.fields, chip)}" for form in forms if _is_shown(form, command.fields)]
    if command.header != default_header(chip, command.engine):
        tokens.append(f"header={command.header.hex()}")
    return f"{command.offset:08x}: {command.mnemonic:<22} {' '.join(tokens)}".rstrip()


def default_header(chip: Chip, engine: Engine) -> bytes:
    """The eight bytes that cvikernel puts in front of a descriptor."""
    width = tiu_layout(chip).num_bytes if engine == Engine.TIU else tdma_layout(chip).num_bytes
    return bytes((chip.magic, width, engine, 0, 0, 0, 0, 0))


def tiu_mnemonic(chip: Chip, regs: TiuRegs) -> str:
    try:
        return decode_tiu(chip, regs).mnemonic
    except IllegalInstruction:
        return "tiu.unknown"


def tdma_mnemonic(chip: Chip, regs: TdmaRegs) -> str:
    try:
        return decode_tdma(chip, regs).mnemonic
    except IllegalInstruction:
        return "tdma.unknown"


def _stream(
    engine: Engine, layout: Layout, descriptors: Any, places: Any, mnemonics: list[str]
) -> dict[int, tuple[Engine, str, dict[str, int]]]:
    """Place in the buffer -> (engine, mnemonic, fields) of every descriptor of one engine."""
    columns = layout.decode(descriptors)
    table = np.stack(list(columns.values()), axis=1).tolist()
    names = list(columns)
    return {
        place: (engine, mnemonic, dict(zip(names, row, strict=True)))
        for place, mnemonic, row in zip(places.tolist(), mnemonics, table, strict=True)
    }


def _forms(engine: Engine) -> tuple[Form, ...]:
    return TIU_FORMS if engine == Engine.TIU else TDMA_FORMS


def _is_shown(form: Form, fields: dict[str, int]) -> bool:
    """Whether any field of the form is set; an address also where its operand has a shape, since address 0 is one like
    any other."""
    if any(fields[name] for name in form.fields):
        return True
    operand = form.key.removesuffix(".at")
    return operand != form.key and bool(fields[f"{operand}_w"])

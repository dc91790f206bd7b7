"""From the text of program.disasm back to command buffers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from npusim.chip import Chip, chip_named
from npusim.errors import FileFormatError, UsageError
from npusim.isa.descriptors import layout_of
from npusim.isa.layout import Layout
from npusim.isa.opcodes import ENGINES, Engine
from npusim.program.disasm import default_header, instructions, mnemonic_of
from npusim.program.forms import default_fields, forms_of, read_int


@dataclass(frozen=True)
class Assembled:
    """One command buffer out of a text."""

    section: str
    chip: Chip
    data: bytes


@dataclass
class _Line:
    number: int
    engine: Engine
    mnemonic: str
    fields: dict[str, int]
    header: bytes


@dataclass
class _Part:
    section: str
    chip: Chip
    lines: list[_Line] = field(default_factory=list)


def assemble(text: str) -> list[Assembled]:
    """The command buffers that `text` describes: one for each `.chip` or `.section` directive that commands follow.

    Directives alone make an empty one. Text from ";" on is a comment, and so is an offset in front of a mnemonic.
    Raises FileFormatError that names the line."""
    parts: list[_Part] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"^[0-9a-fA-F]+:", "", raw.split(";")[0].strip()).strip()
        if not line:
            continue
        try:
            if line.startswith("."):
                _directive(line, parts)
            else:
                _command(number, line, parts)
        except FileFormatError as error:
            raise FileFormatError(f"line {number}: {error}") from None
    filled = [part for part in parts if part.lines] or parts[-1:]
    return [Assembled(part.section, part.chip, _encode(part)) for part in filled]


def _directive(line: str, parts: list[_Part]) -> None:
    name, _, value = line.partition(" ")
    if name == ".chip":
        try:
            parts.append(_Part("", chip_named(value.strip())))
        except UsageError as error:
            raise FileFormatError(str(error)) from None
    elif name == ".section" and parts:
        parts.append(_Part(value.strip(), parts[-1].chip))
    elif name == ".section":
        raise FileFormatError(".section stands in front of any .chip; name the chip first, as in .chip cv181x")
    else:
        raise FileFormatError(f"directive {name} is not known; known are .chip and .section")


def _command(number: int, line: str, parts: list[_Part]) -> None:
    if not parts:
        raise FileFormatError("a command stands in front of any .chip; name the chip first, as in .chip cv181x")
    chip = parts[-1].chip
    mnemonic, *tokens = line.split()
    engine = Engine.TIU if mnemonic.startswith("tiu") else Engine.TDMA
    if not mnemonic.startswith(("tiu", "tdma")):
        raise FileFormatError(f"mnemonic {mnemonic!r} begins with neither tiu nor tdma")
    layout = layout_of(chip, engine)
    given: dict[str, int] = {}
    header = default_header(chip, engine)
    for token in tokens:
        key, _, value = token.partition("=")
        if key == "header":
            header = _header(value, header)
            continue
        for name, number_ in _fields(chip, engine, layout, key, value).items():
            if name in given:
                raise FileFormatError(f"{name} is given twice")
            if number_ >= layout.by_name[name].limit:
                raise FileFormatError(f"{name} is {number_}, but it holds {layout.by_name[name].width} bits")
            given[name] = number_
    parts[-1].lines.append(_Line(number, engine, mnemonic, given, header))


def _fields(chip: Chip, engine: Engine, layout: Layout, key: str, value: str) -> dict[str, int]:
    for form in forms_of(engine).get(key.partition(".")[0], ()):
        if form.key == key:
            return form.read(value, chip)
    if key not in layout.by_name:
        raise FileFormatError(f"{layout.name} descriptors have no field {key!r}")
    return {key: read_int(value)}


def _header(text: str, default: bytes) -> bytes:
    if not re.fullmatch("[0-9a-fA-F]{16}", text):
        raise FileFormatError(f"header={text} must be 16 hexadecimal digits")
    header = bytes.fromhex(text)
    if header[:2] != default[:2] or header[2] & 15 != default[2]:
        raise FileFormatError(f"header={text} contradicts the chip or the engine, whose header is {default.hex()}")
    return header


def _encode(part: _Part) -> bytes:
    chip = part.chip
    bodies: dict[int, bytes] = {}
    for engine in ENGINES:
        layout = layout_of(chip, engine)
        lines = [line for line in part.lines if line.engine == engine]
        defaults = default_fields(layout)
        columns = {
            name: np.array([line.fields.get(name, default) for line in lines], np.int64)
            for name, default in defaults.items()
        }
        rows = layout.encode(columns, len(lines))
        for line, row, insn in zip(lines, rows, instructions(chip, engine, rows), strict=True):
            mnemonic = mnemonic_of(insn, engine)
            if line.mnemonic not in (mnemonic, mnemonic_of(None, engine)):
                raise FileFormatError(f"line {line.number}: it says {line.mnemonic}, but its fields make it {mnemonic}")
            bodies[line.number] = row.tobytes()
    return b"".join(line.header + bodies[line.number] for line in part.lines)

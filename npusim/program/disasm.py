"""From a command buffer to text, one command a line, and to JSON. program.asm turns the text back into the same bytes.

    .chip cv181x
    00000000: tdma_load  cmd_id=1 src_fmt=1 ... src=1x3x32x32 src.at=base1+0x1200 dst=3x32x32 dst.at=lane0.bank0+0x000

A line holds the command's offset, its mnemonic, the fields that are not at their default under their header's names,
and the operands that its instruction declares (program.forms says how). A command that no instruction matches is
`tiu.unknown` or `tdma.unknown`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import IllegalInstruction
from npusim.insn import Instruction
from npusim.insn.operand import Operand, Place
from npusim.isa.descriptors import layout_of
from npusim.isa.opcodes import Engine
from npusim.isa.regs import tdma_rows, tiu_rows
from npusim.mem.region import LMEM, Region
from npusim.mem.tensor import LocalTensor
from npusim.program.cmdbuf import HEADER_BYTES, Cmdbuf
from npusim.program.decode import decode_tdma, decode_tiu
from npusim.program.forms import default_fields, forms_of, write_gmem_addr, write_lmem_addr

_HEX_FIELDS = frozenset({"quan_m", "const_val", "opd0_ins_val", "opd0_ins_fp", "layer_info", "layer_ID"})


@dataclass(frozen=True)
class Command:
    """One command of a buffer in the words of its header file."""

    index: int
    offset: int
    """Of the command's header, in bytes from the buffer's start."""
    engine: Engine
    instruction: Instruction | None
    """What it is; None where no instruction matches."""
    fields: dict[str, int]
    """Every field of the descriptor."""
    header: bytes

    @property
    def mnemonic(self) -> str:
        return mnemonic_of(self.instruction, self.engine)

    @cached_property
    def touched(self) -> list[tuple[Operand, Sequence[Place]]]:
        """The operands that it has, as its class declares them; none where it is no instruction that the chip runs."""
        if self.instruction is None:
            return []
        try:
            self.instruction.check_rules()
        except IllegalInstruction:
            return []
        return self.instruction.touched()

    def operands(self, chip: Chip) -> dict[str, str]:
        """Key -> text of every operand that the instruction has, or in whose fields anything stands."""
        present = {operand.name for operand, _ in self.touched}
        return {
            form.key: form.write(self.fields, chip)
            for name, forms in forms_of(self.engine).items()
            for form in forms
            if any(self.fields[field] for field in form.fields) or (name in present and form.key != f"{name}.str")
        }


def commands(cmdbuf: Cmdbuf) -> Iterator[Command]:
    """Every command of `cmdbuf`, in buffer order."""
    chip = cmdbuf.chip
    widths = np.empty(cmdbuf.num_commands, np.int64)
    found: dict[int, tuple[Engine, Instruction | None, dict[str, int]]] = {}
    for engine, descriptors, index in (
        (Engine.TIU, cmdbuf.tiu, cmdbuf.tiu_index),
        (Engine.TDMA, cmdbuf.tdma, cmdbuf.tdma_index),
    ):
        layout = layout_of(chip, engine)
        widths[index] = layout.num_bytes + HEADER_BYTES
        columns = layout.decode(descriptors)
        table = np.stack(list(columns.values()), axis=1).tolist()
        for place, insn, row in zip(index.tolist(), instructions(chip, engine, descriptors), table, strict=True):
            found[place] = (engine, insn, dict(zip(columns, row, strict=True)))
    offsets = (np.cumsum(widths) - widths).tolist()
    for place, offset, header in zip(range(cmdbuf.num_commands), offsets, cmdbuf.headers, strict=True):
        engine, insn, fields = found[place]
        yield Command(place, offset, engine, insn, fields=fields, header=header.tobytes())


def disassemble(cmdbuf: Cmdbuf, section: str = "") -> str:
    """`cmdbuf` as text that npusim.program.asm.assemble turns back into the same bytes; `section` names it where there
    are several."""
    lines = [f".chip {cmdbuf.chip.name}"]
    if section:
        lines.append(f".section {section}")
    lines += [write_command(command, cmdbuf.chip) for command in commands(cmdbuf)]
    return "\n".join(lines) + "\n"


def disassemble_json(cmdbuf: Cmdbuf) -> list[dict[str, Any]]:
    """`cmdbuf` as JSON-ready objects: index, offset, engine, mnemonic, operands as in the text, what they are to the
    instruction, and every field that is not 0."""
    chip = cmdbuf.chip
    return [
        {
            "index": command.index,
            "offset": command.offset,
            "engine": command.engine.name,
            "mnemonic": command.mnemonic,
            "operands": command.operands(chip),
            "accesses": [_access_json(operand, places, chip) for operand, places in command.touched],
            "fields": {name: value for name, value in command.fields.items() if value},
        }
        for command in commands(cmdbuf)
    ]


def write_command(command: Command, chip: Chip) -> str:
    """One line of text."""
    tokens = [
        f"{name}={command.fields[name]:#x}" if name in _HEX_FIELDS else f"{name}={command.fields[name]}"
        for name, default in _plain_fields(chip, command.engine)
        if command.fields[name] != default
    ]
    tokens += [f"{key}={text}" for key, text in command.operands(chip).items()]
    if command.header != default_header(chip, command.engine):
        tokens.append(f"header={command.header.hex()}")
    return f"{command.offset:08x}: {command.mnemonic:<22} {' '.join(tokens)}".rstrip()


@cache
def _plain_fields(chip: Chip, engine: Engine) -> list[tuple[str, int]]:
    """Name and default of every field that belongs to no operand."""
    of_operands = {name for forms in forms_of(engine).values() for form in forms for name in form.fields}
    return [(name, value) for name, value in default_fields(layout_of(chip, engine)).items() if name not in of_operands]


def default_header(chip: Chip, engine: Engine) -> bytes:
    """The eight bytes that cvikernel puts in front of a descriptor."""
    return bytes((chip.magic, layout_of(chip, engine).num_bytes, engine, 0, 0, 0, 0, 0))


def instructions(chip: Chip, engine: Engine, descriptors: NDArray[np.uint8]) -> list[Instruction | None]:
    """What each descriptor of one engine is; None where no instruction matches."""
    if engine == Engine.TIU:
        return [_or_none(decode_tiu, chip, regs) for regs in tiu_rows(chip, descriptors)]
    return [_or_none(decode_tdma, chip, regs) for regs in tdma_rows(chip, descriptors)]


def mnemonic_of(instruction: Instruction | None, engine: Engine) -> str:
    """The instruction's mnemonic, or `tiu.unknown` or `tdma.unknown` for none."""
    return instruction.mnemonic if instruction else f"{engine.name.lower()}.unknown"


def _or_none(decode: Callable[[Chip, Any], Instruction], chip: Chip, regs: Any) -> Instruction | None:
    try:
        return decode(chip, regs)
    except IllegalInstruction:
        return None


def _access_json(operand: Operand, places: Sequence[Place], chip: Chip) -> dict[str, Any]:
    return {
        "name": operand.name,
        "role": operand.role.value,
        "what": operand.what,
        "places": [_place_json(place, chip) for place in places],
    }


def _place_json(place: Place, chip: Chip) -> dict[str, Any]:
    """A tensor of LMEM or GMEM, or a run of bytes."""
    if isinstance(place, Region):
        start = place.start if place.memory == LMEM else place.start + chip.gmem_base
        return {"at": _at(place.memory, start, chip), "bytes": place.num_bytes}
    memory = LMEM if isinstance(place, LocalTensor) else place.base_reg
    return {
        "at": _at(memory, place.addr, chip),
        "shape": list(place.shape),
        "stride": list(place.stride),
        "fmt": place.fmt.value,
    }


def _at(memory: int, addr: int, chip: Chip) -> str:
    return write_lmem_addr(addr, chip) if memory == LMEM else write_gmem_addr(memory, addr)

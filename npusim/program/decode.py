"""From descriptors to instructions, in the order in which the engines will run them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from operator import attrgetter
from types import SimpleNamespace

from npusim.chip import Chip
from npusim.errors import Deadlock, IllegalInstruction
from npusim.insn import INSTRUCTIONS, Instruction, TdmaInstruction, TiuInstruction
from npusim.isa.opcodes import ENGINES, TDMA_OPCODE, TIU, TIU_OPCODE
from npusim.isa.regs import TdmaRegs, TiuRegs, each_tdma, each_tiu
from npusim.program.cmdbuf import Cmdbuf
from npusim.program.waits import Waits, waits_of

_tiu_opcode, _tdma_opcode = attrgetter(*TIU_OPCODE), attrgetter(*TDMA_OPCODE)


def decode_tiu(chip: Chip, regs: TiuRegs, index: int = -1) -> Instruction:
    """The instruction that a TIU descriptor is. Raises IllegalInstruction where no operation has its `tsk_typ` and
    `tsk_eu_typ`."""
    kind = _tiu_kind(_tiu_opcode(regs))
    if kind is None:
        raise IllegalInstruction(
            f"command {index}: no TIU operation has tsk_typ {regs.tsk_typ} with tsk_eu_typ {regs.tsk_eu_typ}", index
        )
    return kind(chip, regs, index)


def decode_tdma(chip: Chip, regs: TdmaRegs, index: int = -1) -> Instruction:
    """The instruction that a TDMA descriptor is. Raises IllegalInstruction where no operation has its mode bits."""
    kind = _tdma_kind(_tdma_opcode(regs))
    if kind is None:
        raise IllegalInstruction(
            f"command {index}: no TDMA operation has trans_dir {regs.trans_dir}, spec_func {regs.spec_func}, "
            f"transpose_md {regs.transpose_md} and sys_dtype {regs.sys_dtype}",
            index,
        )
    return kind(chip, regs, index)


@cache
def _tiu_kind(opcode: tuple[int, ...]) -> type[Instruction] | None:
    return _kind(TiuInstruction, SimpleNamespace(**dict(zip(TIU_OPCODE, opcode, strict=True))))


@cache
def _tdma_kind(opcode: tuple[int, ...]) -> type[Instruction] | None:
    return _kind(TdmaInstruction, SimpleNamespace(**dict(zip(TDMA_OPCODE, opcode, strict=True))))


def _kind(engine: type[Instruction], opcode: SimpleNamespace) -> type[Instruction] | None:
    return next((kind for kind in INSTRUCTIONS if issubclass(kind, engine) and kind.matches(opcode)), None)


def decode_cmdbuf(cmdbuf: Cmdbuf) -> list[Instruction]:
    """Every instruction of `cmdbuf` in the order in which it executes (`Waits.turns`).

    Raises IllegalInstruction for a command that is no instruction, and Deadlock where neither engine can go on."""
    return list(each_instruction(cmdbuf))


def each_instruction(cmdbuf: Cmdbuf) -> Iterator[Instruction]:
    """As decode_cmdbuf, one after another: decoded instructions are some 900 bytes each, more than bound ones. What is
    raised comes at its place."""
    chip = cmdbuf.chip
    waits = waits_of(cmdbuf)
    turns = waits.turns
    tiu = zip(each_tiu(chip, cmdbuf.tiu), cmdbuf.tiu_index.tolist(), strict=True)
    tdma = zip(each_tdma(chip, cmdbuf.tdma), cmdbuf.tdma_index.tolist(), strict=True)
    for engine in turns:
        yield decode_tiu(chip, *next(tiu)) if engine == TIU else decode_tdma(chip, *next(tdma))
    if len(turns) < cmdbuf.num_commands:
        raise Deadlock(_deadlock_message(cmdbuf, waits))


def _deadlock_message(cmdbuf: Cmdbuf, waits: Waits) -> str:
    parts = []
    for stuck in waits.stuck:
        mine, other = ENGINES[stuck.engine].name, ENGINES[1 - stuck.engine].name
        index = cmdbuf.index[stuck.engine][stuck.position]
        parts.append(f"{mine} command {index} waits for {other} id {stuck.wait}, but {other} has done {stuck.done}")
    return "deadlock: " + " and ".join(parts) + "; an id that a command waits for must be given by an earlier one"

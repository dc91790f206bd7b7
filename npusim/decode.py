"""From descriptors to instructions, in the order in which the engines will run them."""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from npusim.chip import Chip
from npusim.errors import Deadlock, IllegalInstruction
from npusim.insn import INSTRUCTIONS, Instruction, TdmaInstruction, TiuInstruction
from npusim.isa.regs import TdmaRegs, TiuRegs, tdma_rows, tiu_rows
from npusim.loader.cmdbuf import Cmdbuf

_TIU_OPCODE = ("tsk_typ", "tsk_eu_typ", "opt_chl_quan", "tens_lookup", "tens_mdsum")
_TDMA_OPCODE = ("trans_dir", "spec_func", "trans_fmt", "sys_dtype", "compress_en", "transpose_md")
"""All that `Instruction.matches` looks at: a kind is looked for once for each combination."""
_tiu_opcode, _tdma_opcode = attrgetter(*_TIU_OPCODE), attrgetter(*_TDMA_OPCODE)


def decode_tiu(chip: Chip, regs: TiuRegs, index: int = -1) -> Instruction:
    """The instruction that a TIU descriptor is. Raises IllegalInstruction where no operation has its `tsk_typ` and `tsk_eu_typ`."""
    kind = _tiu_kind(_tiu_opcode(regs))
    if kind is None:
        raise IllegalInstruction(f"command {index}: no TIU operation has tsk_typ {regs.tsk_typ} with tsk_eu_typ {regs.tsk_eu_typ}", index)
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
    return _kind(TiuInstruction, SimpleNamespace(**dict(zip(_TIU_OPCODE, opcode, strict=True))))


@cache
def _tdma_kind(opcode: tuple[int, ...]) -> type[Instruction] | None:
    return _kind(TdmaInstruction, SimpleNamespace(**dict(zip(_TDMA_OPCODE, opcode, strict=True))))


def _kind(engine: type[Instruction], opcode: SimpleNamespace) -> type[Instruction] | None:
    return next((kind for kind in INSTRUCTIONS if issubclass(kind, engine) and kind.matches(opcode)), None)


def decode_cmdbuf(cmdbuf: Cmdbuf) -> list[Instruction]:
    """Every instruction of `cmdbuf` in the order in which it executes.

    Both engines run their own stream strictly in order; a TIU command with `cmd_id_en` waits for the TDMA command `cmd_id_gdma`, a TDMA
    command for the TIU command `wait_id_tpu`. Ids start at 0 done. With both ready, TIU and TDMA take turns, TIU first; this is the
    functional model's order, and a program without races computes the same in any order. Raises Deadlock where neither can go on.
    """
    chip = cmdbuf.chip
    tiu = list(zip(tiu_rows(chip, cmdbuf.tiu), cmdbuf.tiu_index.tolist(), strict=True))
    tdma = list(zip(tdma_rows(chip, cmdbuf.tdma), cmdbuf.tdma_index.tolist(), strict=True))
    ordered: list[Instruction] = []
    i = j = tiu_done = tdma_done = 0
    while i < len(tiu) or j < len(tdma):
        before = i + j
        if i < len(tiu) and (not tiu[i][0].cmd_id_en or tiu[i][0].cmd_id_gdma <= tdma_done):
            ordered.append(decode_tiu(chip, *tiu[i]))
            tiu_done = tiu[i][0].cmd_id_tpu
            i += 1
        if j < len(tdma) and tdma[j][0].wait_id_tpu <= tiu_done:
            ordered.append(decode_tdma(chip, *tdma[j]))
            tdma_done = tdma[j][0].cmd_id
            j += 1
        if i + j == before:
            raise Deadlock(_deadlock_message(tiu[i:], tdma[j:], tiu_done, tdma_done))
    return ordered


def _deadlock_message(tiu: list[tuple[Any, int]], tdma: list[tuple[Any, int]], tiu_done: int, tdma_done: int) -> str:
    parts = []
    if tiu:
        parts.append(f"TIU command {tiu[0][1]} waits for TDMA id {tiu[0][0].cmd_id_gdma}, but TDMA has done {tdma_done}")
    if tdma:
        parts.append(f"TDMA command {tdma[0][1]} waits for TIU id {tdma[0][0].wait_id_tpu}, but TIU has done {tiu_done}")
    return "deadlock: " + " and ".join(parts) + "; an id that a command waits for must be given by an earlier one"

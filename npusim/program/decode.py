"""From descriptors to instructions, in the order in which the engines will run them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import numpy as np

from npusim.chip import Chip
from npusim.errors import Deadlock, IllegalInstruction
from npusim.insn import INSTRUCTIONS, Instruction, TdmaInstruction, TiuInstruction
from npusim.isa.regs import TdmaRegs, TiuRegs, tdma_rows, tiu_rows
from npusim.program.cmdbuf import Cmdbuf

_TIU_OPCODE = ("tsk_typ", "tsk_eu_typ", "opt_chl_quan", "tens_lookup", "tens_mdsum")
_TDMA_OPCODE = ("trans_dir", "spec_func", "trans_fmt", "sys_dtype", "compress_en", "transpose_md")
"""All that `Instruction.matches` looks at: a kind is looked for once for each combination."""
_tiu_opcode, _tdma_opcode = attrgetter(*_TIU_OPCODE), attrgetter(*_TDMA_OPCODE)


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
    return _kind(TiuInstruction, SimpleNamespace(**dict(zip(_TIU_OPCODE, opcode, strict=True))))


@cache
def _tdma_kind(opcode: tuple[int, ...]) -> type[Instruction] | None:
    return _kind(TdmaInstruction, SimpleNamespace(**dict(zip(_TDMA_OPCODE, opcode, strict=True))))


def _kind(engine: type[Instruction], opcode: SimpleNamespace) -> type[Instruction] | None:
    return next((kind for kind in INSTRUCTIONS if issubclass(kind, engine) and kind.matches(opcode)), None)


_Rows = list[tuple[Any, int]]


def decode_cmdbuf(cmdbuf: Cmdbuf) -> list[Instruction]:
    """Every instruction of `cmdbuf` in the order in which it executes.

    Both engines run their own stream strictly in order; a TIU command with `cmd_id_en` waits for the TDMA command
    `cmd_id_gdma`, a TDMA command for the TIU command `wait_id_tpu`. Ids start at 0 done. With both ready, TIU and TDMA
    take turns, TIU first; this is the functional model's order, and a program without races computes the same in any
    order. Raises Deadlock where neither can go on.

    An id below the engine's last one starts ids over (they have 16 bits): what stands in front is finished first, on
    both engines."""
    chip = cmdbuf.chip
    tiu = list(zip(tiu_rows(chip, cmdbuf.tiu), cmdbuf.tiu_index.tolist(), strict=True))
    tdma = list(zip(tdma_rows(chip, cmdbuf.tdma), cmdbuf.tdma_index.tolist(), strict=True))
    ordered: list[Instruction] = []
    starts = _restarts(
        [(regs.cmd_id_tpu, index) for regs, index in tiu], [(regs.cmd_id, index) for regs, index in tdma]
    )
    i = j = 0
    for end in [*starts, cmdbuf.num_commands]:
        i_end, j_end = (int(np.searchsorted(index, end)) for index in (cmdbuf.tiu_index, cmdbuf.tdma_index))
        _order(chip, tiu[i:i_end], tdma[j:j_end], ordered)
        i, j = i_end, j_end
    return ordered


def _restarts(*streams: list[tuple[int, int]]) -> list[int]:
    """Places at which ids start over, out of each engine's (id, place)."""
    falls = [(place, before) for ids in streams for (last, before), (id_, place) in pairwise(ids) if id_ < last]
    starts: list[int] = []
    for place, before in sorted(falls):
        if not starts or before >= starts[-1]:  # else the other engine has started over already
            starts.append(place)
    return starts


def _order(chip: Chip, tiu: _Rows, tdma: _Rows, ordered: list[Instruction]) -> None:
    """Appends the commands of one run of ids to `ordered`."""
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


def _deadlock_message(tiu: _Rows, tdma: _Rows, tiu_done: int, tdma_done: int) -> str:
    parts = []
    if tiu:
        parts.append(
            f"TIU command {tiu[0][1]} waits for TDMA id {tiu[0][0].cmd_id_gdma}, but TDMA has done {tdma_done}"
        )
    if tdma:
        parts.append(
            f"TDMA command {tdma[0][1]} waits for TIU id {tdma[0][0].wait_id_tpu}, but TIU has done {tiu_done}"
        )
    return "deadlock: " + " and ".join(parts) + "; an id that a command waits for must be given by an earlier one"

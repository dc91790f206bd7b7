"""A program's commands grouped by geometry: by instruction and by how the operands lie in memory.

Tiled networks repeat themselves. Of tens of thousands of commands, a few thousand differ in more than ids, values and
offsets. What an instruction's declaration says is worked out once for each of these geometries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Ints
from npusim.chip import Chip
from npusim.insn import INSTRUCTIONS, TDMA_OPERANDS, TIU_OPERANDS, Instruction
from npusim.insn.operands import addr_in
from npusim.insn.tdma_base import LOCAL_DESTINATION, LOCAL_SOURCE
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.layout import Columns, Layout
from npusim.isa.opcodes import TransDir
from npusim.isa.regs import TDMA_SCHEDULING, TIU_SCHEDULING, tdma_rows, tiu_rows
from npusim.program.cmdbuf import Cmdbuf
from npusim.program.decode import decode_tdma, decode_tiu

_NUMBER = {kind: number for number, kind in enumerate(INSTRUCTIONS)}
TIU_VALUES = [
    "quan_m",
    "opt_res_shift",
    "opt_right_shift",
    "opt_left_shift",
    "opt_shift_typ",
    "opt_rshift_typ",
    "fp_round_typ",
    "opt_relu_typ",
    "opt_relu",
    "opt_relu_value",
    "opd0_ins_val",
    "opd0_ins_fp",
    "cmd_pre_exe",
    "cmd_pre_exe_typ",
    "conv_opd0_x_ins0",
    "conv_opd0_y_ins0",
    "conv_opd0_x_ins0_last",
    "conv_opd0_y_ins0_last",
    "conv_opd1_x_ins0",
    "conv_opd1_y_ins0",
    "conv_opd0_up_pad",
    "conv_opd0_dn_pad",
    "conv_opd0_lf_pad",
    "conv_opd0_rt_pad",
    "conv_op_x_str",
    "conv_op_y_str",
]
TDMA_VALUES = [
    "const_val",
    "int8_sign",
    "int8_rnd_mode",
    "compress_zero_guard",
    "compress_bias0",
    "compress_bias1",
    "cmprs_fmt",
    "check_bf16_value",
    "src_base_reg_sel",
    "dst_base_reg_sel",
    "src_base_addr_high",
    "dst_base_addr_high",
    "mv_lut_idx",
    "mv_lut_base",
]
"""Fields that do not say where in LMEM an operand lies. The scheduling fields of `isa.regs` do not either."""


@dataclass(frozen=True)
class Distinct:
    """Commands of one engine, and the geometry of each: the first command that differs from it at most in ids, values
    and offsets of operands."""

    chip: Chip
    rows: NDArray[np.uint8]
    """The descriptors, shape (commands, bytes of a descriptor)."""
    index: Ints
    """Place of each command in its command buffer."""
    first: Ints
    """For each geometry, the first command that has it."""
    inverse: Ints
    """For each command, the number of its geometry."""
    parse: Callable[[Chip, NDArray[np.uint8]], list[Any]]
    decode: Callable[[Chip, Any, int], Instruction]
    offsets: Ints
    """Where in a lane each operand starts, in bytes, shape (commands, TIU_OPERANDS or TDMA_OPERANDS)."""

    def instruction(self, place: int) -> Instruction:
        """The command at `place` among those of its engine."""
        (regs,) = self.parse(self.chip, self.rows[place : place + 1])
        return self.decode(self.chip, regs, int(self.index[place]))

    @cached_property
    def instructions(self) -> list[Instruction]:
        """The first command of each geometry. Raises IllegalInstruction, with the command's index, for one that is not
        a valid instruction."""
        regs = self.parse(self.chip, self.rows[self.first])
        return [self.decode(self.chip, r, i) for r, i in zip(regs, self.index[self.first].tolist(), strict=True)]

    @cached_property
    def kind(self) -> Ints:
        """Place in INSTRUCTIONS of each command."""
        return np.array([_NUMBER[type(insn)] for insn in self.instructions], np.int64)[self.inverse]

    def flag(self, name: str) -> NDArray[np.bool_]:
        """The boolean attribute `name` of each command's class."""
        return np.array([getattr(insn, name) for insn in self.instructions], bool)[self.inverse]


def distinct_tiu(cmdbuf: Cmdbuf, columns: Columns) -> Distinct:
    """The TIU commands of `cmdbuf`, whose fields are `columns`."""
    chip, layout = cmdbuf.chip, tiu_layout(cmdbuf.chip)
    regs = SimpleNamespace(**columns)
    addrs = [addr_in(regs, name) for name in TIU_OPERANDS]
    names = tuple(f"{name}_addr" for name in TIU_OPERANDS)
    masked = cmdbuf.tiu & _mask(chip, layout, (*TIU_SCHEDULING, *TIU_VALUES), names)
    offsets = np.stack(addrs, axis=1) % chip.lmem_bytes
    commands = (cmdbuf.tiu, cmdbuf.tiu_index)
    return Distinct(chip, *commands, *_sorted_out(masked), parse=tiu_rows, decode=decode_tiu, offsets=offsets)


def distinct_tdma(cmdbuf: Cmdbuf, columns: Columns) -> Distinct:
    """The TDMA commands of `cmdbuf`, whose fields are `columns`."""
    chip, layout = cmdbuf.chip, tdma_layout(cmdbuf.chip)
    sides = tuple(f"{name}_base_addr_low" for name in TDMA_OPERANDS)
    left_out = (*TDMA_SCHEDULING, *TDMA_VALUES)
    masks = np.empty((len(TransDir), layout.num_bytes), np.uint8)
    for direction in TransDir:
        local = (LOCAL_SOURCE, LOCAL_DESTINATION)
        in_gmem = [side for side, where in zip(sides, local, strict=True) if direction not in where]
        masks[direction] = _mask(chip, layout, (*left_out, *in_gmem), sides)
    masked = cmdbuf.tdma & masks[columns["trans_dir"]]
    offsets = np.stack([columns[side] for side in sides], axis=1) % chip.lmem_bytes
    commands = (cmdbuf.tdma, cmdbuf.tdma_index)
    return Distinct(chip, *commands, *_sorted_out(masked), parse=tdma_rows, decode=decode_tdma, offsets=offsets)


def _mask(chip: Chip, layout: Layout, left_out: tuple[str, ...], addrs: tuple[str, ...]) -> NDArray[np.uint8]:
    """The bits of a descriptor that belong to its geometry: all bits except the fields `left_out` and the offset within
    a lane of the addresses `addrs`."""
    columns = {f.name: np.array([f.limit - 1]) for f in layout.fields if f.name not in left_out}
    if chip.lmem_bytes & (chip.lmem_bytes - 1) == 0:
        for name in set(addrs) & set(columns):
            columns[name] &= ~(chip.lmem_bytes - 1)
    return layout.encode(columns, 1)[0]


def _sorted_out(masked: NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """(first, inverse) as in Distinct; rows that are equal have one geometry."""
    keys: list[Any] = np.ascontiguousarray(masked).view(np.dtype((np.void, masked.shape[1]))).ravel().tolist()
    seen: dict[bytes, int] = {}
    inverse = np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)
    return np.unique(inverse, return_index=True)[1], inverse

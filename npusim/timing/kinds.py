"""Which instruction every descriptor is, for whole columns of descriptors at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.insn import INSTRUCTIONS
from npusim.isa.layout import Columns
from npusim.isa.regs import TdmaRegs, TiuRegs
from npusim.program.decode import decode_tdma, decode_tiu

TIU_MODE = ("tsk_typ", "tsk_eu_typ", "tens_mdsum", "tens_lookup", "opt_chl_quan")
TDMA_MODE = (
    "trans_dir",
    "spec_func",
    "transpose_md",
    "sys_dtype",
    "trans_fmt",
    "compress_en",
    "mv_lut_idx",
    "mv_lut_base",
)
"""Fields that tell instructions apart; descriptors that agree in them are one instruction."""
_NUMBER = {kind: number for number, kind in enumerate(INSTRUCTIONS)}


def tiu_kinds(chip: Chip, columns: Columns, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place in INSTRUCTIONS of each TIU descriptor. Raises IllegalInstruction that names the command where one is no
    instruction."""
    return _kinds(chip, columns, index, TIU_MODE, TiuRegs, decode_tiu)


def tdma_kinds(chip: Chip, columns: Columns, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same for TDMA descriptors."""
    return _kinds(chip, columns, index, TDMA_MODE, TdmaRegs, decode_tdma)


def _kinds(
    chip: Chip, columns: Columns, index: NDArray[np.int64], mode: tuple[str, ...], regs: Any, decode: Any
) -> NDArray[np.int64]:
    key = np.zeros(len(index), np.int64)
    for name in mode:
        if name in columns:
            key = key * 64 + columns[name] % 64
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    numbers = []
    for row in first.tolist():
        fields = {name: int(columns[name][row]) if name in columns else 0 for name in regs._fields}
        numbers.append(_NUMBER[type(decode(chip, regs(**fields), int(index[row])))])
    return np.array(numbers, np.int64)[inverse]

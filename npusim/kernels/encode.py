"""From fields under the cv181x names to descriptors of any chip of the family."""

from __future__ import annotations

import numpy as np

from npusim.chip import Chip
from npusim.insn import TDMA_OPERANDS, TIU_OPERANDS, Instruction
from npusim.isa.descriptors import CV183X_ALIASES, TIU_CV183X, tdma_layout, tiu_layout
from npusim.isa.layout import Layout
from npusim.isa.opcodes import Engine
from npusim.isa.regs import TdmaRegs, TiuRegs
from npusim.program.decode import decode_tdma, decode_tiu

Fields = dict[str, int]

TIU_RESET: Fields = dict(
    cmd_en=1, cmd_id_en=1, tsk_opd_num=2, opt_left_shift=2, opt_shift_typ=1, opt_rshift_typ=1, opt_opd1_sign=1,
    opt_opd2_sign=1,
    opt_res0_seg=1, opt_opd0_seg=1, opt_opd1_seg=1, rsvd1=1, rsvd2=2, rsvd3=3, rsvd4=4, rsvd5=5, rsvd6=6,
    conv_op_x_str=1, conv_op_y_str=1,
    **{f"{opd}_{dim}": 16 if dim == "w" else 1 for opd in TIU_OPERANDS for dim in "nchw"},
    **{f"{opd}_{dim}_str": step for opd in TIU_OPERANDS for dim, step in (("n", 16), ("c", 16), ("w", 1), ("b", 16))},
)  # fmt: skip
"""What cvikernel starts every TIU descriptor from (reset_tiu_reg in cv181x_tiu_reg.h)."""
TDMA_RESET: Fields = dict(
    vld=1, bar_en=1, dst_fmt=1, src_fmt=1, src_n=1,
    **{f"{side}_{name}": 1 for side in TDMA_OPERANDS for name in ("c", "h", "w", "n_stride", "c_stride_low",
    "h_stride")},
)  # fmt: skip
"""The same for TDMA descriptors (reset_tdma_reg in cv181x_tdma_reg.h)."""
_CV183X_NAMES = {new: old for old, new in CV183X_ALIASES.items()}


def tiu_bytes(chip: Chip, commands: list[Fields]) -> list[bytes]:
    """One descriptor for each of `commands`, fields on top of TIU_RESET."""
    if chip.tiu_layout != "cv183x":
        return _encode(tiu_layout(chip), TIU_RESET, commands)
    reset = _cv183x(TIU_RESET) | dict(rsvd1=1 << 12, rsvd2=2 << 8, rsvd3=3, rsvd4=4 << 12, rsvd5=5 << 12, rsvd6=6)
    return _encode(tiu_layout(chip), reset, [_cv183x(fields) for fields in commands])


def _cv183x(fields: Fields) -> Fields:
    """Under cv183x's own names, without what its descriptors do not hold."""
    named = {_CV183X_NAMES.get(name, name): value for name, value in fields.items()}
    if named.get("opd_typ") and "opd0_ins_val" in named:
        named["opd0_ins_fp"] = named.pop("opd0_ins_val")
    return {name: value for name, value in named.items() if name in TIU_CV183X.by_name}


def tdma_bytes(chip: Chip, commands: list[Fields]) -> list[bytes]:
    """One descriptor for each of `commands`, fields on top of TDMA_RESET."""
    return _encode(tdma_layout(chip), TDMA_RESET, commands)


def instruction_of(chip: Chip, engine: Engine, fields: Fields) -> Instruction:
    """The instruction that `fields` are, on top of the engine's reset values.

    Raises IllegalInstruction where they are none."""
    if engine == Engine.TIU:
        return decode_tiu(chip, _TIU_START._replace(**fields))
    return decode_tdma(chip, _TDMA_START._replace(**fields))


_TIU_START = TiuRegs._make(TIU_RESET.get(name, 0) for name in TiuRegs._fields)
_TDMA_START = TdmaRegs._make(TDMA_RESET.get(name, 0) for name in TdmaRegs._fields)


def _encode(layout: Layout, reset: Fields, commands: list[Fields]) -> list[bytes]:
    names = set(reset).union(*commands)
    columns = {
        name: np.array([fields.get(name, reset.get(name, 0)) for fields in commands], np.int64) for name in names
    }
    return [row.tobytes() for row in layout.encode(columns, len(commands))]

"""cv183x's sum over all axes except the channel (source: src/bm1880v2/tiu_mdsum.c of wwwuxy/cvikernel)."""

from __future__ import annotations

import numpy as np

from npusim.insn.base import Bound, TiuInstruction
from npusim.insn.operand import Operand, Role
from npusim.insn.operands import INT8, Tensors, bound, checked_shape, planes_of, shape_of, tensor_of
from npusim.insn.rules import check_signs
from npusim.isa.opcodes import TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import lmem_tensor
from npusim.mem.tensor import Fmt
from npusim.numerics.requant import saturate, shift_right
from npusim.state import State


def _sums(insn: Mdsum) -> Tensors:
    """The planes of the result. The high bytes are one byte after the low ones; res0_b_str is ignored. If there are
    more channels than lanes, they overwrite low bytes."""
    return planes_of(tensor_of(insn, "res0", Fmt.U8), 1 if insn.regs.opt_res0_seg else 2, 1)


class Mdsum(TiuInstruction):
    """res0[c] = sum of opd0[:, c, :, :], shifted right and saturated to 8 or 16 bits. `opd_typ` does not matter:
    elements are bytes."""

    __slots__ = ()
    mnemonic = "tiu_mdsum"
    operands = (
        Operand("opd0", Role.READ, "8-bit summands", lambda i: (tensor_of(i, "opd0", INT8[i.regs.opt_opd0_sign]),)),
        Operand("res0", Role.WRITE, "a sum of 8 or 16 bits for each channel", _sums),
    )

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return regs.tsk_typ == TskTyp.TENSOR_ARITH and bool(regs.tens_mdsum) and not regs.tens_lookup

    def check_rules(self) -> None:
        regs = self.regs
        self.require(regs.tsk_opd_num == 1, f"tsk_opd_num is {regs.tsk_opd_num}; a sum takes 1")
        self.require(
            bool(regs.opt_opd0_seg) and not regs.opt_opd0_const,
            "opd0 must be an 8-bit tensor (opt_opd0_seg 1, opt_opd0_const 0)",
        )
        strides = (regs.short_res0_str, regs.short_opd0_str, regs.short_opd1_str)
        self.require(strides == (1, 0, 0), f"short_*_str of res0, opd0, opd1 are {strides}; a sum takes (1, 0, 0)")
        self.require(
            not regs.short_nchwstr_same, "short_nchwstr_same is 1; a sum's operands have strides of their own (0)"
        )
        channels = checked_shape(self, "opd0")[1]
        self.require(
            shape_of(self, "res0") == (1, channels, 1, 1),
            f"res0 has shape {shape_of(self, 'res0')}, not {(1, channels, 1, 1)}",
        )
        if not regs.opd_typ:
            check_signs(self)

    def bind_checked(self, state: State) -> Bound:
        regs = self.regs
        load = bound(self, state, "opd0").load
        low, *high = (lmem_tensor(state, plane, "res0") for plane in _sums(self))
        shift, rounding, relu = regs.opt_res_shift, bool(regs.opt_rshift_typ), regs.opt_relu_typ == 1
        bits, signed = 8 if regs.opt_res0_seg else 16, bool(regs.opt_res0_sign)

        def run() -> None:
            sums = shift_right(load().sum(axis=(0, 2, 3), keepdims=True, dtype=np.int32), shift, rounding)
            sums = saturate(np.maximum(sums, 0) if relu else sums, bits, signed)
            low.store(sums)
            for plane in high:
                plane.store(sums >> 8)

        return run


MDSUM_INSTRUCTIONS: tuple[type[TiuInstruction], ...] = (Mdsum,)

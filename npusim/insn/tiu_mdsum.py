"""cv183x's sum over everything but the channel (source: src/bm1880v2/tiu_mdsum.c of wwwuxy/cvikernel)."""

from __future__ import annotations

import numpy as np

from npusim.insn.base import Bound, TiuInstruction
from npusim.insn.elementwise import check_signs
from npusim.insn.operands import INT8, shape_of, tensor
from npusim.isa.opcodes import TskTyp
from npusim.numerics.requant import saturate, shift_right
from npusim.state import State


class Mdsum(TiuInstruction):
    """res0[c] = sum of opd0[:, c, :, :], shifted right and saturated to 8 or 16 bits. `opd_typ` does not matter:
    elements are bytes."""

    __slots__ = ()
    mnemonic = "tiu_mdsum"

    @classmethod
    def matches(cls, regs) -> bool:  # type: ignore[no-untyped-def]
        return regs.tsk_typ == TskTyp.TENSOR_ARITH and bool(regs.tens_mdsum) and not regs.tens_lookup

    def bind(self, state: State) -> Bound:
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
        channels = shape_of(self, "opd0")[1]
        self.require(
            shape_of(self, "res0") == (1, channels, 1, 1),
            f"res0 has shape {shape_of(self, 'res0')}, not {(1, channels, 1, 1)}",
        )
        if not regs.opd_typ:
            check_signs(self)
        load = tensor(self, state, "opd0", INT8[regs.opt_opd0_sign]).load
        low = tensor(self, state, "res0", np.uint8)
        # The high bytes go one byte behind the low ones, whatever res0_b_str says, and over them where the channels go
        # round the lanes.
        high = None if regs.opt_res0_seg else tensor(self, state, "res0", np.uint8, offset=1)
        shift, rounding, relu = regs.opt_res_shift, bool(regs.opt_rshift_typ), regs.opt_relu_typ == 1
        bits, signed = 8 if regs.opt_res0_seg else 16, bool(regs.opt_res0_sign)

        def run() -> None:
            sums = shift_right(load().sum(axis=(0, 2, 3), keepdims=True, dtype=np.int32), shift, rounding)
            sums = saturate(np.maximum(sums, 0) if relu else sums, bits, signed)
            low.store(sums)
            if high:
                high.store(sums >> 8)

        return run


MDSUM_INSTRUCTIONS: tuple[type[TiuInstruction], ...] = (Mdsum,)

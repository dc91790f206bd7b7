"""Table lookup: 256 elements for each lane, indexed by the low byte of each element.

Source: wwwuxy/cvikernel src/cv181x/tiu_lookup_table.c. An interpolating or scientific bf16 table is this instruction
several times, on indices that TDMA moves and conversions have made."""

from __future__ import annotations

import numpy as np

from npusim.insn.base import Bound, TiuInstruction
from npusim.insn.operand import Holds, Operand, Role, Share
from npusim.insn.operands import Tensors, bound, checked_shape, result, shape_of, tensor_of
from npusim.insn.rules import check_signs
from npusim.isa.opcodes import ArithEuTyp, TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import lmem_tensor
from npusim.mem.tensor import Fmt
from npusim.state import State

TABLE_SIZE = 256


def _fmt(insn: LookupTable) -> Fmt:
    return Fmt.BF16 if insn.is_float else Fmt.U8


def _indices(insn: LookupTable) -> Tensors:
    """Of a bf16 index only the low byte is looked at."""
    return (tensor_of(insn, "opd0", _fmt(insn))._replace(fmt=Fmt.U8),)


def _tables(insn: LookupTable) -> Tensors:
    """Only the tables that the result's channels take: as many as there are channels, or all."""
    whole, lanes = tensor_of(insn, "opd1", _fmt(insn)), insn.chip.num_lanes
    flat = whole._replace(shape=(1, lanes, 1, TABLE_SIZE), stride=(0, whole.stride[1], 0, whole.itemsize))
    first, count = _window(insn.regs.res0_addr) % lanes, min(insn.regs.res0_c, lanes)
    runs = ((first, min(count, lanes - first)), (0, first + count - lanes))
    return tuple(flat.channels(at, c, insn.chip) for at, c in runs if c > 0)


class LookupTable(TiuInstruction):
    """res0[n, c, h, w] = table of c's lane [opd0[n, c, h, w] & 255], 8-bit or bf16; patterns are copied as they are."""

    __slots__ = ()
    mnemonic = "tiu_lookup_table"
    operands = (
        Operand(
            "opd0", Role.READ, "indices, of which the low byte counts", _indices, share=Share.ELEMENT,
            holds=lambda insn: Holds.INDICES if insn.regs.opd_typ else Holds.BYTES,
        ),
        Operand("opd1", Role.READ, "256 entries for each lane", _tables, in_pieces=True),
        Operand(
            "res0", Role.WRITE, "the entries found", result,
            holds=lambda insn: Holds.ENTRIES if insn.regs.opd_typ else Holds.NUMBERS,
        ),
    )  # fmt: skip

    @property
    def is_float(self) -> bool:
        return bool(self.regs.opd_typ)

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return regs.tsk_typ == TskTyp.TENSOR_ARITH and bool(regs.tens_lookup or regs.tsk_eu_typ == ArithEuTyp.LOOKUP)

    def bind_checked(self, state: State) -> Bound:
        indices, table = (lmem_tensor(state, tensor_of(self, name, _fmt(self)), name) for name in ("opd0", "opd1"))
        found = bound(self, state, "res0", Role.WRITE)
        rows = _window(self.regs.res0_addr) + np.arange(found.shape[1])
        lanes = rows % self.chip.num_lanes
        first, used = (lanes * TABLE_SIZE).reshape(1, -1, 1, 1), np.unique(lanes)

        def run() -> None:
            places, entries = indices.load(), table.load().reshape(-1, TABLE_SIZE)
            one = entries[used[0]]
            if (entries[used] == one).all():  # as compilers fill them
                found.store(one.take(places & 0xFF))
            else:
                found.store(entries.take(np.bitwise_and(places, 0xFF, dtype=np.intp) + first))

        return run

    def check_rules(self) -> None:
        regs = self.regs
        if self.chip.tiu_layout == "cv183x" and not regs.tens_lookup:
            self.refuse("tsk_eu_typ is 12 without tens_lookup; this chip looks up with tens_lookup 1")
        if regs.tsk_opd_num != 2:
            self.refuse(f"tsk_opd_num is {regs.tsk_opd_num}; a lookup takes 2")
        if regs.opt_opd0_const or regs.opt_opd1_const:
            self.refuse("a lookup's operands are tensors (opt_opd0_const and opt_opd1_const 0)")
        for name in ("res0", "opd0", "opd1"):
            if getattr(regs, f"short_{name}_str"):
                self.refuse(
                    f"short_{name}_str is {getattr(regs, f'short_{name}_str')}; a lookup works at aligned strides (0)"
                )
        if checked_shape(self, "opd0") != checked_shape(self, "res0"):
            self.refuse(f"opd0 has shape {shape_of(self, 'opd0')}, but res0 has {shape_of(self, 'res0')}")
        if _window(regs.res0_addr) != _window(regs.opd0_addr):
            self.refuse(
                f"res0_addr {regs.res0_addr:#x} and opd0_addr {regs.opd0_addr:#x} must lie in the same 64 KiB of LMEM"
            )
        shape = (1, self.chip.num_lanes, 32, 8) if regs.opd_typ else (1, self.chip.num_lanes, 16, 16)
        if shape_of(self, "opd1") != shape:
            self.refuse(f"opd1 has shape {shape_of(self, 'opd1')}; a table is {shape}")
        self._check_types()

    def _check_types(self) -> None:
        regs = self.regs
        segs = (regs.opt_res0_seg, regs.opt_opd0_seg, regs.opt_opd1_seg)
        if not regs.opd_typ:
            if 0 in segs:
                self.refuse(f"opt_*_seg of res0, opd0, opd1 are {segs}; a lookup takes 8 bits (1)")
            if regs.opt_opd0_sign or regs.opt_opd1_sign:
                self.refuse("opt_opd0_sign and opt_opd1_sign must be 0 in an 8-bit lookup")
            check_signs(self)
        else:
            signs = (regs.opt_res0_sign, regs.opt_opd0_sign, regs.opt_opd1_sign, regs.opt_opd2_sign)
            if signs != (1, 1, 1, 1) or (*segs, regs.opt_opd2_seg) != (1, 1, 1, 1):
                self.refuse(
                    f"opt_*_sign are {signs} and opt_*_seg {(*segs, regs.opt_opd2_seg)}; a bf16 lookup sets "
                    "them all to 1"
                )


def _window(addr: int) -> int:
    """The 64 KiB that `addr` lies in, for the functional model a lane of a lookup: channel j of the result takes row
    (window + j) of opd1.

    Tensors that start on lane 0 or 1, as cvikernel allocates them, lie in window 0, where the table of channel j is
    that of lane j."""
    return addr >> 16


LUT_INSTRUCTIONS: tuple[type[TiuInstruction], ...] = (LookupTable,)

"""Tensor and general copies, and constant fills: elements keep their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from npusim.errors import AddressError
from npusim.insn.base import Bound
from npusim.insn.operand import Holds, Operand, Place, Share
from npusim.insn.tdma_base import Transfer
from npusim.insn.tdma_transfer import bound_sides, bound_tensor, transfer, transfer_to_table
from npusim.isa.opcodes import SpecFunc, TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.gmem import TensorGmem, physical_addr
from npusim.mem.region import LMEM, Region
from npusim.numerics.convert import lut_base_from_bf16, lut_index_from_bf16
from npusim.state import State


class TensorCopy(Transfer):
    """(src_n, src_c, src_h, src_w) to (src_n, dst_c, dst_h, dst_w) in that order of elements, converted between int8,
    uint8 and bf16."""

    __slots__ = ()

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return not (regs.trans_fmt or regs.sys_dtype or regs.spec_func or regs.compress_en)

    def check_rules(self) -> None:
        self.check_formats()
        src_shape, dst_shape = self.src_shape, self.dst_shape
        if src_shape != dst_shape and math.prod(src_shape) != math.prod(dst_shape):
            self.refuse(f"source shape {src_shape} and destination shape {dst_shape} must hold equally many elements")

    def bind_checked(self, state: State) -> Bound:
        return transfer(*bound_sides(state, self), self.table())


class G2lTensorCopy(TensorCopy):
    """A tensor from GMEM to LMEM, converted between int8, uint8 and bf16."""

    __slots__ = ()
    mnemonic = "tdma_g2l_tensor_copy"
    direction = TransDir.G2L


class L2gTensorCopy(TensorCopy):
    """A tensor from LMEM to GMEM, converted between int8, uint8 and bf16."""

    __slots__ = ()
    mnemonic = "tdma_l2g_tensor_copy"
    direction = TransDir.L2G


class G2gTensorCopy(TensorCopy):
    """A tensor from GMEM to GMEM, converted between int8, uint8 and bf16."""

    __slots__ = ()
    mnemonic = "tdma_g2g_tensor_copy"
    direction = TransDir.G2G


class L2lTensorCopy(TensorCopy):
    """The only l2l operation: trans_fmt, sys_dtype and compress_en mean nothing to it."""

    __slots__ = ()
    mnemonic = "tdma_l2l_tensor_copy"
    direction = TransDir.L2L
    operands = (TensorCopy.operands[0]._replace(share=Share.MOVED), TensorCopy.operands[1])

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return regs.spec_func == SpecFunc.COPY

    def apart(self) -> tuple[tuple[str, str], ...]:
        return (("src", "dst"),) if self.table() is None else ()

    def check_rules(self) -> None:
        super().check_rules()
        self.table()

    def bind_checked(self, state: State) -> Bound:
        table = self.table()
        if self.regs.src_fmt != self.regs.dst_fmt or table is None:
            return super().bind_checked(state)
        return transfer_to_table(*bound_sides(state, self), table)

    def table(self) -> NDArray | None:
        """From bf16 to bf16 a copy can turn numbers into what a table lookup needs: their index, or the entry's own
        argument."""
        regs = self.regs
        if (regs.src_fmt, regs.dst_fmt) != (TdmaFmt.BF16, TdmaFmt.BF16) or not (regs.mv_lut_idx or regs.mv_lut_base):
            return super().table()
        self.require(
            not (regs.mv_lut_idx and regs.mv_lut_base), "mv_lut_idx and mv_lut_base are both set; at most one may be"
        )
        return lut_index_from_bf16() if regs.mv_lut_idx else lut_base_from_bf16()


class TensorFillConstant(Transfer):
    """const_val to every element of (src_n, dst_c, dst_h, dst_w); its low byte where dst_fmt is int8."""

    __slots__ = ()
    operands = (Transfer.operands[1]._replace(holds=Holds.BYTES),)

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return regs.spec_func == SpecFunc.FILL_CONSTANT and not (regs.trans_fmt or regs.sys_dtype or regs.compress_en)

    def acts(self) -> bool:
        return 0 not in self.dst_shape

    def clears(self) -> bool:
        return True

    def check_rules(self) -> None:
        self.check_same_format(TdmaFmt.INT8, TdmaFmt.BF16)

    def bind_checked(self, state: State) -> Bound:
        (place,) = self.destinations()
        dst = bound_tensor(state, place, "dst")
        constant = np.frombuffer(self.regs.const_val.to_bytes(2, "little"), np.uint8)
        everywhere = np.ndarray(dst.shape, dst.cover.dtype, constant, 0, (0, 0, 0, 0))
        return transfer(TensorGmem(constant, everywhere, (0, everywhere.itemsize)), dst)


class G2lTensorFillConstant(TensorFillConstant):
    """A constant to every element of a tensor in LMEM."""

    __slots__ = ()
    mnemonic = "tdma_g2l_tensor_fill_constant"
    direction = TransDir.G2L


class L2gTensorFillConstant(TensorFillConstant):
    """A constant to every element of a tensor in GMEM."""

    __slots__ = ()
    mnemonic = "tdma_l2g_tensor_fill_constant"
    direction = TransDir.L2G


class GeneralCopy(Transfer):
    """src_n_stride bytes from one linear address to another; in LMEM they run on from lane to lane."""

    __slots__ = ()
    linear = True
    operands = tuple(operand._replace(holds=Holds.BYTES) for operand in Transfer.operands)

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.trans_fmt) and not (regs.sys_dtype or regs.spec_func)

    def acts(self) -> bool:
        return bool(self.regs.src_n_stride)

    def check_rules(self) -> None:
        regs = self.regs
        if regs.src_fmt != regs.dst_fmt and self.direction != TransDir.G2G:
            self.refuse(
                f"src_fmt {regs.src_fmt} and dst_fmt {regs.dst_fmt} must be the same; a general copy does not convert"
            )

    def sources(self) -> Sequence[Place]:
        return (self.run_of_bytes("src", self.regs.src_n_stride),)

    def destinations(self) -> Sequence[Place]:
        return (self.run_of_bytes("dst", self.regs.src_n_stride),)

    def bind_checked(self, state: State) -> Bound:
        src, dst = (_bytes(state, self, operand) for operand in self.operands)
        return partial(np.copyto, dst, src)


def _bytes(state: State, insn: GeneralCopy, operand: Operand) -> NDArray[np.uint8]:
    """The bytes of an operand in the memory where it lies."""
    (run,) = operand.places(insn)
    assert isinstance(run, Region)
    if run.memory != LMEM:
        start = physical_addr(state, run.memory, run.start + insn.chip.gmem_base, run.run, operand.name)
        return state.gmem.bytes[start : start + run.run]
    if run.end > state.lmem_flat.size:
        num_bytes = state.lmem_flat.size
        raise AddressError(
            f"{operand.name}: {run.run} bytes from {run.start:#x} end past LMEM, which has {num_bytes:#x} bytes"
        )
    return state.lmem_flat[run.start : run.end]


class G2lGeneralCopy(GeneralCopy):
    """A run of bytes from GMEM to LMEM."""

    __slots__ = ()
    mnemonic = "tdma_g2l_general_copy"
    direction = TransDir.G2L


class L2gGeneralCopy(GeneralCopy):
    """A run of bytes from LMEM to GMEM."""

    __slots__ = ()
    mnemonic = "tdma_l2g_general_copy"
    direction = TransDir.L2G


class G2gGeneralCopy(GeneralCopy):
    """A run of bytes from GMEM to GMEM."""

    __slots__ = ()
    mnemonic = "tdma_g2g_general_copy"
    direction = TransDir.G2G

"""Tensor and general copies, and constant fills: elements keep their order."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from npusim.errors import AddressError
from npusim.insn.base import Bound
from npusim.insn.tdma_base import LOCAL_DESTINATION, LOCAL_SOURCE, UNSIGNED, Transfer
from npusim.insn.tdma_transfer import transfer
from npusim.isa.opcodes import SpecFunc, TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.gmem import TensorGmem, physical_addr
from npusim.numerics.convert import lut_base_from_bf16, lut_index_from_bf16
from npusim.state import State


class TensorCopy(Transfer):
    """(src_n, src_c, src_h, src_w) to (src_n, dst_c, dst_h, dst_w) in that order of elements, converted between int8,
    uint8 and bf16."""

    __slots__ = ()

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return not (regs.trans_fmt or regs.sys_dtype or regs.spec_func or regs.compress_en)

    def bind(self, state: State) -> Bound:
        src_size, dst_size = self.itemsizes()
        src_shape, dst_shape = self.src_shape, self.dst_shape
        self.require(
            src_shape == dst_shape or math.prod(src_shape) == math.prod(dst_shape),
            f"source shape {src_shape} and destination shape {dst_shape} must hold equally many elements",
        )
        src = self.source(state, src_shape, self.src_strides(src_size), src_size)
        dst = self.destination(state, dst_shape, self.dst_strides(dst_size), dst_size)
        return transfer(src, dst, self.table())


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

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return regs.spec_func == SpecFunc.COPY

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

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return regs.spec_func == SpecFunc.FILL_CONSTANT and not (regs.trans_fmt or regs.sys_dtype or regs.compress_en)

    def bind(self, state: State) -> Bound:
        itemsize = self.same_itemsize((TdmaFmt.INT8, TdmaFmt.BF16))
        dst = self.destination(state, self.dst_shape, self.dst_strides(itemsize), itemsize)
        constant = np.frombuffer(self.regs.const_val.to_bytes(2, "little"), np.uint8)
        everywhere = np.ndarray(dst.shape, UNSIGNED[itemsize], constant, 0, (0, 0, 0, 0))
        return transfer(TensorGmem(constant, everywhere, (0, itemsize)), dst)


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

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.trans_fmt) and not (regs.sys_dtype or regs.spec_func)

    def bind(self, state: State) -> Bound:
        regs, num_bytes = self.regs, self.regs.src_n_stride
        self.require(
            regs.src_fmt == regs.dst_fmt or self.direction == TransDir.G2G,
            f"src_fmt {regs.src_fmt} and dst_fmt {regs.dst_fmt} must be the same; a general copy does not convert",
        )
        src = self._bytes(
            state, self.direction in LOCAL_SOURCE, regs.src_base_reg_sel, self.src_addr, num_bytes, "source"
        )
        dst = self._bytes(
            state, self.direction in LOCAL_DESTINATION, regs.dst_base_reg_sel, self.dst_addr, num_bytes, "destination"
        )
        return partial(np.copyto, dst, src)

    @staticmethod
    def _bytes(state: State, local: bool, base_reg: int, addr: int, num_bytes: int, what: str) -> NDArray[np.uint8]:
        memory = state.lmem_flat if local else state.gmem.bytes
        offset = addr if local else physical_addr(state, base_reg, addr, what)
        if offset + num_bytes > memory.size:
            raise AddressError(
                f"{what}: {num_bytes} bytes from {offset:#x} end past {'LMEM' if local else 'GMEM'}, which has "
                f"{memory.size:#x} bytes"
            )
        return memory[offset : offset + num_bytes]


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

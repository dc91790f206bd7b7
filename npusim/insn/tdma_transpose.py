"""Tensor copies that change the order of axes: n with c, c with w, and interleaved pixels into planes."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.insn.base import Bound
from npusim.insn.operand import Place
from npusim.insn.tdma_base import Transfer
from npusim.insn.tdma_matrix import check_aligned
from npusim.insn.tdma_transfer import bound_sides, transfer, transfer_nc_transposed
from npusim.isa.opcodes import SpecFunc, TdmaFmt, TransDir, TransposeMd
from npusim.isa.regs import TdmaRegs
from npusim.mem.gmem import TensorGmem
from npusim.mem.lmem import TensorLmem
from npusim.mem.tensor import Shape
from npusim.state import State


class TensorTranspose(Transfer):
    """The common part of all tensor copies that change the order of axes."""

    __slots__ = ()

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        plain = not (regs.trans_fmt or regs.sys_dtype or regs.compress_en)
        return plain and regs.spec_func == SpecFunc.TRANSPOSE and cls.is_mode(regs.transpose_md)

    @classmethod
    def is_mode(cls, transpose_md: int) -> bool:
        raise NotImplementedError


class NcTransposed(TensorTranspose):
    """(n, c, h, w) to (c, n, h', w'), converted between int8, uint8 and bf16; h' * w' is h * w."""

    __slots__ = ()

    @classmethod
    def is_mode(cls, transpose_md: int) -> bool:
        return transpose_md == TransposeMd.NC

    def check_rules(self) -> None:
        self.check_formats()
        n, c, h, w = self.src_shape
        _, dst_c, dst_h, dst_w = self.dst_shape
        if dst_c != n or dst_h * dst_w != h * w:
            self.refuse(
                f"destination shape {self.dst_shape} must be source shape {(n, c, h, w)} with n and c exchanged, "
                "h * w kept"
            )

    @property
    def dst_shape(self) -> Shape:
        regs = self.regs
        return (regs.src_c, regs.dst_c, regs.dst_h, regs.dst_w)

    def bind_checked(self, state: State) -> Bound:
        src, dst = bound_sides(state, self)
        if isinstance(src, TensorGmem) and isinstance(dst, TensorLmem):
            return transfer_nc_transposed(src, dst, self.table())
        assert isinstance(dst, TensorGmem)
        return transfer(src, dst.transposed(1, 0, 2, 3), self.table())


class G2lTensorCopyNcTransposed(NcTransposed):
    """A tensor from GMEM to LMEM with n and c exchanged."""

    __slots__ = ()
    mnemonic = "tdma_g2l_tensor_copy_nc_transposed"
    direction = TransDir.G2L


class L2gTensorCopyNcTransposed(NcTransposed):
    """A tensor from LMEM to GMEM with n and c exchanged."""

    __slots__ = ()
    mnemonic = "tdma_l2g_tensor_copy_nc_transposed"
    direction = TransDir.L2G


class L2gTensorCopyCwTransposed(TensorTranspose):
    """(n, c, h, w) of int8 to (n, w, h, c)."""

    __slots__ = ()
    mnemonic = "tdma_l2g_tensor_copy_cw_transposed"
    direction = TransDir.L2G

    @classmethod
    def is_mode(cls, transpose_md: int) -> bool:
        return transpose_md == TransposeMd.CW

    def check_rules(self) -> None:
        self.check_same_format(TdmaFmt.INT8)
        (n, c, h, w), dst_shape = self.src_shape, self.dst_shape
        if dst_shape != (n, w, h, c):
            self.refuse(f"destination shape {dst_shape} must be source shape {(n, c, h, w)} with c and w exchanged")

    def bind_checked(self, state: State) -> Bound:
        src, dst = bound_sides(state, self)
        assert isinstance(dst, TensorGmem)
        return transfer(src, dst.transposed(0, 3, 2, 1))


class G2lTensorCopyChwRotated(TensorTranspose):
    """Pixels of 3 or 4 interleaved int8 channels in GMEM to planes: channel j starts j * src_c_stride on, pixels are c
    bytes apart."""

    __slots__ = ()
    mnemonic = "tdma_g2l_tensor_copy_chw_rotated"
    direction = TransDir.G2L

    @classmethod
    def is_mode(cls, transpose_md: int) -> bool:
        return transpose_md in (TransposeMd.CHW_C3, TransposeMd.CHW_C4)

    @property
    def num_channels(self) -> int:
        return 3 if self.regs.transpose_md == TransposeMd.CHW_C3 else 4

    def check_rules(self) -> None:
        regs, shape = self.regs, self.dst_shape
        self.check_same_format(TdmaFmt.INT8)
        if self.src_shape != shape:
            self.refuse(f"source shape {self.src_shape} and destination shape {shape} must be equal")
        if regs.dst_c != self.num_channels:
            self.refuse(f"dst_c is {regs.dst_c}; with transpose_md {regs.transpose_md} it must be {self.num_channels}")
        check_aligned(self)

    def sources(self) -> Sequence[Place]:
        return (self.source(self.src_shape, self.src_strides(self.num_channels), 1),)

    def bind_checked(self, state: State) -> Bound:
        return transfer(*bound_sides(state, self))

"""What the DMA's instructions share: their direction, their two tensors and their element formats."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import TdmaInstruction
from npusim.isa.opcodes import TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.gmem import TensorGmem, gmem_tensor
from npusim.mem.lmem import Shape, TensorLmem
from npusim.numerics.convert import bf16_from_int8, int8_from_bf16
from npusim.state import State

LOCAL_SOURCE = (TransDir.L2G, TransDir.L2L)
LOCAL_DESTINATION = (TransDir.G2L, TransDir.L2L)
CONVERSIONS = {
    TransDir.G2L: ((TdmaFmt.INT8, TdmaFmt.BF16),),
    TransDir.L2G: ((TdmaFmt.BF16, TdmaFmt.INT8),),
    TransDir.L2L: ((TdmaFmt.INT8, TdmaFmt.BF16), (TdmaFmt.BF16, TdmaFmt.INT8)),
}
"""(src_fmt, dst_fmt) that differ and are yet legal."""
CONVERSION_TEXT = {direction: " and ".join(f"({a:d}, {b:d})" for a, b in pairs) for direction, pairs in CONVERSIONS.items()}
UNSIGNED: dict[int, np.dtype] = {1: np.dtype(np.uint8), 2: np.dtype("<u2")}
ITEMSIZE: dict[int, int] = {TdmaFmt.INT8: 1, TdmaFmt.BF16: 2}


class Transfer(TdmaInstruction):
    """A DMA instruction of one direction. Source of the fields' meaning: wwwuxy/cvikernel src/cv181x/tdma.c."""

    __slots__ = ()
    direction: ClassVar[TransDir]

    @classmethod
    def matches(cls, regs: TdmaRegs) -> bool:
        return regs.trans_dir == cls.direction and cls.is_kind(regs)

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        """Whether the fields other than the direction name this operation."""
        raise NotImplementedError

    def src_addr(self) -> int:
        return self.regs.src_base_addr_high << 32 | self.regs.src_base_addr_low

    def dst_addr(self) -> int:
        return self.regs.dst_base_addr_high << 32 | self.regs.dst_base_addr_low

    def src_shape(self) -> Shape:
        regs = self.regs
        return (regs.src_n, regs.src_c, regs.src_h, regs.src_w)

    def src_strides(self, itemsize: int) -> Shape:
        """Byte strides; only the one along w is implied."""
        regs = self.regs
        return (regs.src_n_stride, regs.src_c_stride_high << 16 | regs.src_c_stride_low, regs.src_h_stride, itemsize)

    def dst_strides(self, itemsize: int) -> Shape:
        regs = self.regs
        return (regs.dst_n_stride, regs.dst_c_stride_high << 16 | regs.dst_c_stride_low, regs.dst_h_stride, itemsize)

    def source(self, state: State, shape: Shape, strides: Shape, addr: int | None = None) -> TensorLmem | TensorGmem:
        """The tensor at src_base_addr (or `addr`), of the element type that the stride along w gives."""
        addr, dtype = self.src_addr() if addr is None else addr, UNSIGNED[strides[3]]
        if self.direction in LOCAL_SOURCE:
            return TensorLmem(state, addr, shape, strides, dtype, "source")
        return gmem_tensor(state, self.regs.src_base_reg_sel, addr, shape, strides, dtype, "source")

    def destination(self, state: State, shape: Shape, strides: Shape, addr: int | None = None) -> TensorLmem | TensorGmem:
        addr, dtype = self.dst_addr() if addr is None else addr, UNSIGNED[strides[3]]
        if self.direction in LOCAL_DESTINATION:
            return TensorLmem(state, addr, shape, strides, dtype, "destination")
        return gmem_tensor(state, self.regs.dst_base_reg_sel, addr, shape, strides, dtype, "destination")

    def itemsizes(self) -> tuple[int, int]:
        """Bytes of a source and of a destination element."""
        formats = (self.regs.src_fmt, self.regs.dst_fmt)
        if self.direction == TransDir.G2G:  # moves bytes unless both are bf16
            return (2, 2) if formats == (TdmaFmt.BF16, TdmaFmt.BF16) else (1, 1)
        same = formats[0] == formats[1] and formats[0] in ITEMSIZE
        self.require(
            same or formats in CONVERSIONS[self.direction],
            f"(src_fmt, dst_fmt) is {formats}; legal are (1, 1), (2, 2) and {CONVERSION_TEXT[self.direction]}",
        )
        return (ITEMSIZE[formats[0]], ITEMSIZE[formats[1]])

    def table(self) -> NDArray | None:
        """What each source element becomes; None where elements are copied."""
        regs = self.regs
        if regs.src_fmt == regs.dst_fmt or self.direction == TransDir.G2G:
            return None
        if regs.src_fmt == TdmaFmt.INT8:
            return bf16_from_int8(bool(regs.int8_sign))
        return int8_from_bf16(bool(regs.int8_sign), bool(regs.int8_rnd_mode), self.chip.dma_vanish_exponent)

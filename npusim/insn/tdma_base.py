"""What the DMA's instructions share: their direction, their two tensors and their element formats."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import TdmaInstruction
from npusim.insn.tdma_transfer import Tensor
from npusim.isa.opcodes import TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.gmem import gmem_tensor
from npusim.mem.lmem import Shape, lmem_tensor
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
ITEMSIZE: dict[int, int] = {TdmaFmt.INT8: 1, TdmaFmt.BF16: 2}
UNSIGNED: dict[int, np.dtype] = {1: np.dtype(np.uint8), 2: np.dtype("<u2")}
"""Elements are moved as patterns; this is their type by size."""


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

    @property
    def src_addr(self) -> int:
        """Where the source starts: linear in LMEM, behind a base register in GMEM. LMEM addresses leave out the high 8
        bits."""
        low = self.regs.src_base_addr_low
        return low if self.direction in LOCAL_SOURCE else self.regs.src_base_addr_high << 32 | low

    @property
    def dst_addr(self) -> int:
        low = self.regs.dst_base_addr_low
        return low if self.direction in LOCAL_DESTINATION else self.regs.dst_base_addr_high << 32 | low

    @property
    def src_shape(self) -> Shape:
        regs = self.regs
        return (regs.src_n, regs.src_c, regs.src_h, regs.src_w)

    @property
    def dst_shape(self) -> Shape:
        """The destination's extents; a descriptor holds no dst_n, which is src_n but for transpositions that move n."""
        regs = self.regs
        return (regs.src_n, regs.dst_c, regs.dst_h, regs.dst_w)

    @property
    def src_c_stride(self) -> int:
        return self.regs.src_c_stride_high << 16 | self.regs.src_c_stride_low

    @property
    def dst_c_stride(self) -> int:
        return self.regs.dst_c_stride_high << 16 | self.regs.dst_c_stride_low

    def src_strides(self, w_stride: int) -> Shape:
        """Byte strides (n, c, h, w); the descriptor holds all but the last."""
        return (self.regs.src_n_stride, self.src_c_stride, self.regs.src_h_stride, w_stride)

    def dst_strides(self, w_stride: int) -> Shape:
        return (self.regs.dst_n_stride, self.dst_c_stride, self.regs.dst_h_stride, w_stride)

    def source(self, state: State, shape: Shape, strides: Shape, itemsize: int, addr: int | None = None) -> Tensor:
        """The tensor at the source address, or at `addr` of the same memory."""
        addr = self.src_addr if addr is None else addr
        if self.direction in LOCAL_SOURCE:
            return lmem_tensor(state, addr, shape, strides, UNSIGNED[itemsize], "source")
        return gmem_tensor(state, self.regs.src_base_reg_sel, addr, shape, strides, UNSIGNED[itemsize], "source")

    def destination(self, state: State, shape: Shape, strides: Shape, itemsize: int, addr: int | None = None) -> Tensor:
        addr = self.dst_addr if addr is None else addr
        if self.direction in LOCAL_DESTINATION:
            return lmem_tensor(state, addr, shape, strides, UNSIGNED[itemsize], "destination")
        return gmem_tensor(state, self.regs.dst_base_reg_sel, addr, shape, strides, UNSIGNED[itemsize], "destination")

    def itemsizes(self) -> tuple[int, int]:
        """Bytes of a source and of a destination element."""
        formats = (self.regs.src_fmt, self.regs.dst_fmt)
        if self.direction == TransDir.G2G:  # moves bytes unless both are bf16
            return (2, 2) if formats == (TdmaFmt.BF16, TdmaFmt.BF16) else (1, 1)
        same = formats[0] == formats[1] and formats[0] in ITEMSIZE
        if not same and formats not in CONVERSIONS[self.direction]:
            legal = [(1, 1), (2, 2), *(tuple(map(int, pair)) for pair in CONVERSIONS[self.direction])]
            self.refuse(f"(src_fmt, dst_fmt) is {formats}; legal are {', '.join(map(str, legal))}")
        return (ITEMSIZE[formats[0]], ITEMSIZE[formats[1]])

    def same_itemsize(self, legal: tuple[int, ...]) -> int:
        """Bytes of an element where source and destination must have the same format, one of `legal`."""
        formats = (self.regs.src_fmt, self.regs.dst_fmt)
        pairs = ", ".join(f"({fmt:d}, {fmt:d})" for fmt in legal)
        self.require(
            formats[0] == formats[1] and formats[0] in legal, f"(src_fmt, dst_fmt) is {formats}; it must be {pairs}"
        )
        return ITEMSIZE[formats[0]]

    def table(self) -> NDArray | None:
        """What each source element becomes; None where elements are copied."""
        regs = self.regs
        if regs.src_fmt == regs.dst_fmt or self.direction == TransDir.G2G:
            return None
        if regs.src_fmt == TdmaFmt.INT8:
            return bf16_from_int8(bool(regs.int8_sign))
        return int8_from_bf16(bool(regs.int8_sign), bool(regs.int8_rnd_mode), self.chip.dma_vanish_exponent)

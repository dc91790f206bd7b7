"""The common part of the DMA's instructions: their direction, their two tensors and their element formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from numpy.typing import NDArray

from npusim.insn.base import TdmaInstruction
from npusim.insn.operand import Operand, Place, Role
from npusim.isa.opcodes import TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.region import LMEM, Region
from npusim.mem.tensor import Fmt, GlobalTensor, LocalTensor, Shape
from npusim.numerics.convert import bf16_from_int8, int8_from_bf16

LOCAL_SOURCE = (TransDir.L2G, TransDir.L2L)
LOCAL_DESTINATION = (TransDir.G2L, TransDir.L2L)
CONVERSIONS = {
    TransDir.G2L: ((TdmaFmt.INT8, TdmaFmt.BF16),),
    TransDir.L2G: ((TdmaFmt.BF16, TdmaFmt.INT8),),
    TransDir.L2L: ((TdmaFmt.INT8, TdmaFmt.BF16), (TdmaFmt.BF16, TdmaFmt.INT8)),
}
"""(src_fmt, dst_fmt) that differ and are yet legal."""
ITEMSIZE: dict[int, int] = {TdmaFmt.INT8: 1, TdmaFmt.BF16: 2}
_SIZES = {(src, dst): (ITEMSIZE[src], ITEMSIZE[dst]) for src in ITEMSIZE for dst in ITEMSIZE}
PATTERN = {1: Fmt.U8, 2: Fmt.BF16}
"""Elements are moved as patterns; this is their format by size."""


class Transfer(TdmaInstruction):
    """A DMA instruction of one direction. Source for the meaning of fields: wwwuxy/cvikernel src/cv181x/tdma.c."""

    __slots__ = ()
    direction: ClassVar[TransDir]
    linear: ClassVar[bool] = False
    """It moves bytes from one linear address to another, and ignores the shapes."""
    matrix: ClassVar[bool] = False
    """One side is a matrix of rows in GMEM."""
    compressed: ClassVar[bool] = False
    """The side in GMEM is a compressed stream."""
    operands: ClassVar[tuple[Operand, ...]] = (
        Operand("src", Role.READ, "what is moved", lambda insn: insn.sources()),
        Operand("dst", Role.WRITE, "where it goes", lambda insn: insn.destinations()),
    )

    @classmethod
    def matches(cls, regs: TdmaRegs) -> bool:
        return regs.trans_dir == cls.direction and cls.is_kind(regs)

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        """Whether the fields other than the direction select this operation."""
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
        """The destination's extents. A descriptor has no dst_n; it is src_n, except for transpositions that move n."""
        regs = self.regs
        return (regs.src_n, regs.dst_c, regs.dst_h, regs.dst_w)

    @property
    def src_c_stride(self) -> int:
        return self.regs.src_c_stride_high << 16 | self.regs.src_c_stride_low

    @property
    def dst_c_stride(self) -> int:
        return self.regs.dst_c_stride_high << 16 | self.regs.dst_c_stride_low

    def src_strides(self, w_stride: int) -> Shape:
        """Byte strides (n, c, h, w); the descriptor has all but the last."""
        return (self.regs.src_n_stride, self.src_c_stride, self.regs.src_h_stride, w_stride)

    def dst_strides(self, w_stride: int) -> Shape:
        return (self.regs.dst_n_stride, self.dst_c_stride, self.regs.dst_h_stride, w_stride)

    def sources(self) -> Sequence[Place]:
        """Where the source is: one tensor, its pieces, or a run of bytes."""
        size = self.itemsizes[0]
        return (self.source(self.src_shape, self.src_strides(size), size),)

    def destinations(self) -> Sequence[Place]:
        size = self.itemsizes[1]
        return (self.destination(self.dst_shape, self.dst_strides(size), size),)

    def source(
        self, shape: Shape, strides: Shape, itemsize: int, addr: int | None = None
    ) -> LocalTensor | GlobalTensor:
        """The tensor at the source address, or at `addr` of the same memory."""
        addr = self.src_addr if addr is None else addr
        if self.direction in LOCAL_SOURCE:
            return LocalTensor(addr, shape, strides, PATTERN[itemsize])
        return GlobalTensor(self.regs.src_base_reg_sel, addr, shape, strides, PATTERN[itemsize])

    def destination(
        self, shape: Shape, strides: Shape, itemsize: int, addr: int | None = None
    ) -> LocalTensor | GlobalTensor:
        addr = self.dst_addr if addr is None else addr
        if self.direction in LOCAL_DESTINATION:
            return LocalTensor(addr, shape, strides, PATTERN[itemsize])
        return GlobalTensor(self.regs.dst_base_reg_sel, addr, shape, strides, PATTERN[itemsize])

    def run_of_bytes(self, side: str, num_bytes: int) -> Region:
        """The `num_bytes` bytes from the address of `side` ("src" or "dst") on, in its memory."""
        if side == "src":
            local, base_reg, addr = self.direction in LOCAL_SOURCE, self.regs.src_base_reg_sel, self.src_addr
        else:
            local, base_reg, addr = self.direction in LOCAL_DESTINATION, self.regs.dst_base_reg_sel, self.dst_addr
        return (
            Region(LMEM, addr, (), (), num_bytes)
            if local
            else Region(base_reg, addr - self.chip.gmem_base, (), (), num_bytes)
        )

    @property
    def itemsizes(self) -> tuple[int, int]:
        """Bytes of a source and of a destination element; a copy within GMEM moves bytes unless both are bf16."""
        sizes = _SIZES.get((self.regs.src_fmt, self.regs.dst_fmt), (1, 1))
        return sizes if self.direction != TransDir.G2G or sizes == (2, 2) else (1, 1)

    def check_formats(self) -> None:
        """Refuses formats that the direction does not convert."""
        formats = (self.regs.src_fmt, self.regs.dst_fmt)
        same = formats[0] == formats[1] and formats[0] in ITEMSIZE
        if self.direction != TransDir.G2G and not same and formats not in CONVERSIONS[self.direction]:
            legal = [(1, 1), (2, 2), *(tuple(map(int, pair)) for pair in CONVERSIONS[self.direction])]
            self.refuse(f"(src_fmt, dst_fmt) is {formats}; legal are {', '.join(map(str, legal))}")

    def check_same_format(self, *legal: TdmaFmt) -> None:
        """Refuses a source and a destination that do not both have the same format of `legal`."""
        formats = (self.regs.src_fmt, self.regs.dst_fmt)
        if formats[0] != formats[1] or formats[0] not in legal:
            pairs = ", ".join(f"({fmt:d}, {fmt:d})" for fmt in legal)
            self.refuse(f"(src_fmt, dst_fmt) is {formats}; it must be {pairs}")

    def table(self) -> NDArray | None:
        """The table from source to destination elements; None if elements are copied."""
        regs = self.regs
        if regs.src_fmt == regs.dst_fmt or self.direction == TransDir.G2G:
            return None
        if regs.src_fmt == TdmaFmt.INT8:
            return bf16_from_int8(bool(regs.int8_sign))
        return int8_from_bf16(bool(regs.int8_sign), bool(regs.int8_rnd_mode), self.chip.dma_vanish_exponent)

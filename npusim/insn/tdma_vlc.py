"""Compressed transfers between a dense stream in GMEM (npusim.numerics.vlc) and a tensor or a matrix in LMEM."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from npusim.errors import AddressError, IllegalInstruction
from npusim.insn.base import Bound
from npusim.insn.operand import Place
from npusim.insn.tdma_base import PATTERN, Transfer
from npusim.insn.tdma_matrix import MatrixTransfer
from npusim.insn.tdma_transfer import bound_tensor
from npusim.isa.opcodes import SpecFunc, TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.gmem import physical_range
from npusim.mem.region import Region
from npusim.mem.tensor import LocalTensor
from npusim.numerics.vlc import BLOCK, HEADER_BYTES, VlcParams, compress, stream_limit, table_bytes
from npusim.state import State

Elements = NDArray
"""A flat array of patterns, uint8 or uint16."""


class Compressed(Transfer):
    """The common part of all compressed transfers. Only int8 to int8 and bf16 to bf16 are compressed."""

    __slots__ = ()
    compressed = True

    @property
    def count(self) -> int:
        """Elements that are transferred."""
        raise NotImplementedError

    @property
    def stream_itemsize(self) -> int:
        """Bytes of an element in the stream."""
        return self.itemsizes[0 if self.direction == TransDir.G2L else 1]

    def key(self) -> tuple:
        return (*self.work(), self.index)

    def check(self, array_base: Sequence[int] | None = None) -> None:
        super().check(array_base)
        if array_base is not None:
            self._stream_start(array_base, self.chip.gmem_bytes)

    def check_extent(self) -> None:
        count, limit = self.count, self.chip.lmem_total_bytes
        if not 0 < count <= limit:
            self.refuse(f"{count} elements are transferred; a compressed transfer has 1 to {limit}, what LMEM can hold")

    def stream(self) -> Region:
        """At most these bytes of GMEM hold the compressed elements."""
        side = "src" if self.direction == TransDir.G2L else "dst"
        return self.run_of_bytes(side, stream_limit(max(self.count, 0), self.stream_itemsize))

    def bind_decompress(self, state: State, store: Callable[[Elements], None]) -> Bound:
        """Reads the elements. The stream says how they were remapped; the biases, zero guard and cmprs_fmt mean
        nothing."""
        count, itemsize = self.count, self.stream_itemsize
        start = self._stream_start(state.array_base, len(state.gmem))
        stream = state.gmem.bytes[start : start + stream_limit(count, itemsize)]

        def run() -> None:
            try:
                elements = state.streams.elements(start, stream, count, itemsize)
            except ValueError as error:
                raise IllegalInstruction(
                    f"command {self.index} ({self.mnemonic}): the compressed stream at GMEM offset {start:#x} is "
                    f"damaged: {error}",
                    self.index,
                ) from None
            store(elements)

        return run

    def bind_compress(self, state: State, load: Callable[[], Elements]) -> Bound:
        params = self._params()
        start = self._stream_start(state.array_base, len(state.gmem))

        def run() -> None:
            stream = compress(load(), params)
            if start + stream.size > len(state.gmem):
                raise AddressError(
                    f"command {self.index} ({self.mnemonic}): {stream.size} bytes from GMEM offset {start:#x} end "
                    "past GMEM"
                )
            state.gmem.bytes[start : start + stream.size] = stream

        return run

    def check_params(self) -> None:
        """Refuses parameters that the DMA does not compress with."""
        regs, params = self.regs, self._params()
        if regs.compress_bias0 != params.bias0:
            what = "bf16" if params.bf16 else "int8"
            self.refuse(f"compress_bias0 is {regs.compress_bias0}; the DMA compresses {what} with {params.bias0}")
        self.require(regs.compress_bias1 == 0, f"compress_bias1 is {regs.compress_bias1}; the DMA compresses with 0")
        if regs.compress_zero_guard and not params.bf16:
            self.refuse("compress_zero_guard is set, but int8 has no zero guard")
        if params.bf16 and regs.cmprs_fmt:
            self.refuse("cmprs_fmt is set (signed), but bf16 is compressed unsigned")

    def _params(self) -> VlcParams:
        regs, bf16 = self.regs, self.stream_itemsize == 2
        return VlcParams(bf16, bool(regs.cmprs_fmt), 127 if bf16 else 0, 0, bool(regs.compress_zero_guard))

    def _stream_start(self, array_base: Sequence[int], gmem_bytes: int) -> int:
        """Offset in GMEM; header and table at least lie within it."""
        least = HEADER_BYTES + table_bytes(-(-self.count // BLOCK))
        region = self.stream()
        where = (region.memory, region.start + self.chip.gmem_base, least)
        return physical_range(self.chip, array_base, gmem_bytes, where, "header and table of the compressed stream")


_STREAM_IN = (Transfer.operands[0]._replace(at_most=True), Transfer.operands[1])
_STREAM_OUT = (Transfer.operands[0], Transfer.operands[1]._replace(at_most=True))


class G2lTensorCopyDecompressed(Compressed):
    """A stream to (src_n, dst_c, dst_h, dst_w), where int8 may become bf16. spec_func and the source's shape mean
    nothing."""

    __slots__ = ()
    mnemonic = "tdma_g2l_tensor_copy_decompressed"
    direction = TransDir.G2L
    operands = _STREAM_IN

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.compress_en) and not (regs.trans_fmt or regs.sys_dtype)

    @property
    def count(self) -> int:
        return math.prod(self.dst_shape)

    def check_rules(self) -> None:
        self.check_formats()
        (dst,) = self.destinations()
        if isinstance(dst, LocalTensor) and not dst.is_distinct(self.chip):
            self.refuse(f"the destination's strides {dst.stride} let elements overlap")
        self.check_extent()

    def sources(self) -> Sequence[Place]:
        return (self.stream(),)

    def bind_checked(self, state: State) -> Bound:
        (place,) = self.destinations()
        dst, table = bound_tensor(state, place, "dst"), self.table()

        def store(elements: Elements) -> None:
            dst.store((elements if table is None else table[elements]).reshape(dst.shape))

        return self.bind_decompress(state, store)


class L2gTensorCopyCompressed(Compressed):
    """(src_n, src_c, src_h, src_w) to a stream; the destination's shape only has to have dense strides. spec_func means
    nothing."""

    __slots__ = ()
    mnemonic = "tdma_l2g_tensor_copy_compressed"
    direction = TransDir.L2G
    operands = _STREAM_OUT

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.compress_en) and not (regs.trans_fmt or regs.sys_dtype)

    @property
    def count(self) -> int:
        return math.prod(self.src_shape)

    def check_rules(self) -> None:
        self.check_same_format(TdmaFmt.INT8, TdmaFmt.BF16)
        size, (_, c, h, w) = self.stream_itemsize, self.dst_shape
        dense, strides = (c * h * w * size, h * w * size, w * size, size), self.dst_strides(size)
        self.require(strides == dense, f"destination strides {strides} must be dense, {dense}")
        self.check_extent()
        self.check_params()

    def destinations(self) -> Sequence[Place]:
        return (self.stream(),)

    def bind_checked(self, state: State) -> Bound:
        (place,) = self.sources()
        src = bound_tensor(state, place, "src")
        return self.bind_compress(state, lambda: src.load().reshape(-1))


class CompressedMatrix(Compressed, MatrixTransfer):
    """A matrix in LMEM against a stream of its rows."""

    __slots__ = ()

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.compress_en and regs.sys_dtype) and regs.spec_func == SpecFunc.COPY and not regs.trans_fmt

    @property
    def count(self) -> int:
        return math.prod(self.matrix_shape)

    def check_matrix(self, row_stride: int) -> None:
        """What both directions refuse; `row_stride` is that of rows in GMEM."""
        self.check_same_format(TdmaFmt.INT8, TdmaFmt.BF16)
        self.check_rows()
        self.check_extent()
        dense = self.matrix_shape[1] * self.stream_itemsize
        self.require(row_stride == dense, f"the stride of rows in GMEM is {row_stride}; it must be dense, {dense}")

    def held(self) -> list[tuple[slice, LocalTensor]]:
        """The matrix in LMEM piece by piece, each with the columns that it holds."""
        return self.pieces(*self.matrix_shape, self.stream_itemsize)


class G2lMatrixCopyDecompressed(CompressedMatrix):
    """A stream to a matrix in LMEM, without conversion."""

    __slots__ = ()
    mnemonic = "tdma_g2l_matrix_copy_decompressed"
    direction = TransDir.G2L
    operands = (_STREAM_IN[0], MatrixTransfer.operands[1])

    def check_rules(self) -> None:
        self.check_matrix(self.src_c_stride)
        if not all(piece.is_distinct(self.chip) for _, piece in self.held()):
            self.refuse("the destination's strides let elements overlap")

    def sources(self) -> Sequence[Place]:
        return (self.stream(),)

    def bind_checked(self, state: State) -> Bound:
        pieces = [(held, bound_tensor(state, piece, "dst")) for held, piece in self.held()]

        def store(elements: Elements) -> None:
            matrix = elements.reshape(self.matrix_shape)
            for held, piece in pieces:
                piece.store(matrix[:, held].reshape(piece.shape))

        return self.bind_decompress(state, store)


class L2gMatrixCopyCompressed(CompressedMatrix):
    """A matrix in LMEM to a stream, without conversion."""

    __slots__ = ()
    mnemonic = "tdma_l2g_matrix_copy_compressed"
    direction = TransDir.L2G
    operands = (MatrixTransfer.operands[0], _STREAM_OUT[1])

    def check_rules(self) -> None:
        self.check_matrix(self.dst_c_stride)
        self.check_params()

    def destinations(self) -> Sequence[Place]:
        return (self.stream(),)

    def bind_checked(self, state: State) -> Bound:
        pieces = [(held, bound_tensor(state, piece, "src")) for held, piece in self.held()]
        dtype = PATTERN[self.stream_itemsize].dtype

        def load() -> Elements:
            matrix = np.empty(self.matrix_shape, dtype)
            for held, piece in pieces:
                matrix[:, held] = piece.load().reshape(len(matrix), -1)
            return matrix.reshape(-1)

        return self.bind_compress(state, load)

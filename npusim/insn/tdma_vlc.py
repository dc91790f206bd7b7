"""Compressed transfers: a dense stream in GMEM (npusim.numerics.vlc) against a tensor or a matrix in LMEM."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from npusim.errors import AddressError, IllegalInstruction
from npusim.insn.base import Bound
from npusim.insn.tdma_base import UNSIGNED, Transfer
from npusim.insn.tdma_matrix import MatrixTransfer
from npusim.insn.tdma_transfer import distinct
from npusim.isa.opcodes import SpecFunc, TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.gmem import physical_addr
from npusim.mem.lmem import TensorLmem
from npusim.numerics.vlc import BLOCK, HEADER_BYTES, VlcParams, compress, stream_bytes, stream_limit, table_bytes
from npusim.numerics.vlc_decode import decompress
from npusim.state import State

Elements = NDArray
"""A flat array of patterns, uint8 or uint16."""


class Compressed(Transfer):
    """What all compressed transfers share. Only int8 to int8 and bf16 to bf16 are compressed."""

    __slots__ = ()

    def meaning(self) -> tuple:
        return (*super().meaning(), self.index)

    def check_extent(self, count: int) -> None:
        limit = self.chip.lmem_total_bytes
        self.require(
            0 < count <= limit,
            f"{count} elements are transferred; a compressed transfer has 1 to {limit}, what LMEM can hold",
        )

    def bind_decompress(self, state: State, count: int, itemsize: int, store: Callable[[Elements], None]) -> Bound:
        """Reads `count` elements. The stream says how they were remapped; the biases, zero guard and cmprs_fmt mean
        nothing."""
        start = self._stream_start(state, self.regs.src_base_reg_sel, self.src_addr, count, "source")
        stream = state.gmem.bytes[start : start + stream_limit(count, itemsize)]

        kept: list[
            NDArray
        ] = []  # a stream and its elements: small programs run so often that decoding is most of what they take

        def run() -> None:
            if kept and np.array_equal(stream[: kept[0].size], kept[0]):
                store(kept[1])
                return
            try:
                elements = decompress(stream, count, itemsize)
            except ValueError as error:
                raise IllegalInstruction(
                    f"command {self.index} ({self.mnemonic}): the compressed stream at GMEM offset {start:#x} is "
                    f"damaged: {error}",
                    self.index,
                ) from None
            used = stream[: stream_bytes(stream, count)]
            if not kept and used.size + elements.nbytes <= state.decoded_room:
                state.decoded_room -= used.size + elements.nbytes
                kept[:] = used.copy(), elements
            store(elements)

        return run

    def bind_compress(self, state: State, count: int, itemsize: int, load: Callable[[], Elements]) -> Bound:
        params = self._params(itemsize)
        start = self._stream_start(state, self.regs.dst_base_reg_sel, self.dst_addr, count, "destination")

        def run() -> None:
            stream = compress(load(), params)
            if start + stream.size > len(state.gmem):
                raise AddressError(
                    f"command {self.index} ({self.mnemonic}): {stream.size} bytes from GMEM offset {start:#x} end "
                    "past GMEM"
                )
            state.gmem.bytes[start : start + stream.size] = stream

        return run

    def _params(self, itemsize: int) -> VlcParams:
        regs, bf16 = self.regs, itemsize == 2
        bias0 = 127 if bf16 else 0
        what = "bf16" if bf16 else "int8"
        self.require(
            regs.compress_bias0 == bias0,
            f"compress_bias0 is {regs.compress_bias0}; the DMA compresses {what} with {bias0}",
        )
        self.require(regs.compress_bias1 == 0, f"compress_bias1 is {regs.compress_bias1}; the DMA compresses with 0")
        self.require(bf16 or not regs.compress_zero_guard, "compress_zero_guard is set, but int8 has no zero guard")
        self.require(not (bf16 and regs.cmprs_fmt), "cmprs_fmt is set (signed), but bf16 is compressed unsigned")
        return VlcParams(bf16, bool(regs.cmprs_fmt), bias0, 0, bool(regs.compress_zero_guard))

    def _stream_start(self, state: State, base_reg: int, addr: int, count: int, what: str) -> int:
        start = physical_addr(state, base_reg, addr, what)
        least = HEADER_BYTES + table_bytes(-(-count // BLOCK))
        if start + least > len(state.gmem):
            raise AddressError(
                f"{what}: header and table of the compressed stream, {least} bytes from offset {start:#x}, end past "
                "GMEM"
            )
        return start


class G2lTensorCopyDecompressed(Compressed):
    """A stream to (src_n, dst_c, dst_h, dst_w), where int8 may become bf16. spec_func and the source's shape mean
    nothing."""

    __slots__ = ()
    mnemonic = "tdma_g2l_tensor_copy_decompressed"
    direction = TransDir.G2L

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.compress_en) and not (regs.trans_fmt or regs.sys_dtype)

    def bind(self, state: State) -> Bound:
        src_size, dst_size = self.itemsizes()
        dst, table = self.destination(state, self.dst_shape, self.dst_strides(dst_size), dst_size), self.table()
        self.require(distinct(dst), f"the destination's strides {self.dst_strides(dst_size)} let elements overlap")
        count = math.prod(self.dst_shape)
        self.check_extent(count)

        def store(elements: Elements) -> None:
            dst.store((elements if table is None else table[elements]).reshape(dst.shape))

        return self.bind_decompress(state, count, src_size, store)


class L2gTensorCopyCompressed(Compressed):
    """(src_n, src_c, src_h, src_w) to a stream; the destination's shape only has to have dense strides. spec_func means
    nothing."""

    __slots__ = ()
    mnemonic = "tdma_l2g_tensor_copy_compressed"
    direction = TransDir.L2G

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.compress_en) and not (regs.trans_fmt or regs.sys_dtype)

    def bind(self, state: State) -> Bound:
        size = self.same_itemsize((TdmaFmt.INT8, TdmaFmt.BF16))
        _, c, h, w = self.dst_shape
        dense, strides = (c * h * w * size, h * w * size, w * size, size), self.dst_strides(size)
        self.require(strides == dense, f"destination strides {strides} must be dense, {dense}")
        src = self.source(state, self.src_shape, self.src_strides(size), size)
        count = math.prod(self.src_shape)
        self.check_extent(count)
        return self.bind_compress(state, count, size, lambda: src.load().reshape(-1))


class CompressedMatrix(Compressed, MatrixTransfer):
    """What the two compressed transfers of matrices share: a dense stream in GMEM, a matrix in LMEM."""

    __slots__ = ()

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.compress_en and regs.sys_dtype) and regs.spec_func == SpecFunc.COPY and not regs.trans_fmt

    def checked(self, state: State, row_stride: int) -> tuple[int, list[tuple[slice, TensorLmem]]]:
        """Bytes of an element, and the matrix in LMEM piece by piece."""
        size = self.same_itemsize((TdmaFmt.INT8, TdmaFmt.BF16))
        self.check_rows()
        rows, columns = self.matrix_shape
        self.check_extent(rows * columns)
        self.require(
            row_stride == columns * size,
            f"the stride of rows in GMEM is {row_stride}; it must be dense, {columns * size}",
        )
        return size, self.pieces(state, rows, columns, size)


class G2lMatrixCopyDecompressed(CompressedMatrix):
    """A compressed stream in GMEM to a matrix in LMEM."""

    __slots__ = ()
    mnemonic = "tdma_g2l_matrix_copy_decompressed"
    direction = TransDir.G2L

    def bind(self, state: State) -> Bound:
        size, pieces = self.checked(state, self.src_c_stride)
        for _, piece in pieces:
            self.require(distinct(piece), "the destination's strides let elements overlap")

        def store(elements: Elements) -> None:
            matrix = elements.reshape(self.matrix_shape)
            for held, piece in pieces:
                piece.store(matrix[:, held].reshape(piece.shape))

        return self.bind_decompress(state, math.prod(self.matrix_shape), size, store)


class L2gMatrixCopyCompressed(CompressedMatrix):
    """A matrix in LMEM to a compressed stream in GMEM."""

    __slots__ = ()
    mnemonic = "tdma_l2g_matrix_copy_compressed"
    direction = TransDir.L2G

    def bind(self, state: State) -> Bound:
        size, pieces = self.checked(state, self.dst_c_stride)

        def load() -> Elements:
            matrix = np.empty(self.matrix_shape, UNSIGNED[size])
            for held, piece in pieces:
                matrix[:, held] = piece.load().reshape(len(matrix), -1)
            return matrix.reshape(-1)

        return self.bind_compress(state, math.prod(self.matrix_shape), size, load)

"""Footprints of the DMA's instructions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from npusim.footprint.operand import Footprint, LocalTensor, Operand, local_operand
from npusim.insn.base import TdmaInstruction
from npusim.insn.tdma_base import ITEMSIZE, LOCAL_DESTINATION, LOCAL_SOURCE, Transfer
from npusim.insn.tdma_copy import GeneralCopy, TensorCopy, TensorFillConstant
from npusim.insn.tdma_matrix import G2lMatrixCopyRowColTransposed, MatrixCopy, MatrixTransfer
from npusim.insn.tdma_transpose import G2lTensorCopyChwRotated, L2gTensorCopyCwTransposed, NcTransposed
from npusim.insn.tdma_vlc import (
    G2lMatrixCopyDecompressed,
    G2lTensorCopyDecompressed,
    L2gMatrixCopyCompressed,
    L2gTensorCopyCompressed,
)
from npusim.isa.opcodes import TransDir, TransposeMd
from npusim.mem.lmem import Shape
from npusim.mem.region import LMEM, Region, region
from npusim.numerics.vlc import stream_limit


def _remote(insn: Transfer, side: str, axes: tuple[tuple[int, int], ...], run: int) -> Region:
    base_reg, addr = (
        (insn.regs.src_base_reg_sel, insn.src_addr) if side == "source" else (insn.regs.dst_base_reg_sel, insn.dst_addr)
    )
    return region(base_reg, addr - insn.chip.gmem_base, axes, run)


def _tensor(insn: Transfer, side: str, shape: Shape, size: int, w_stride: int = 0) -> Operand:
    """The source or the destination as a tensor of elements of `size` bytes, `w_stride` bytes apart if not dense."""
    from_source = side == "source"
    is_local = insn.direction in (LOCAL_SOURCE if from_source else LOCAL_DESTINATION)
    strides = insn.src_strides(w_stride or size) if from_source else insn.dst_strides(w_stride or size)
    if is_local:
        addr = insn.src_addr if from_source else insn.dst_addr
        return local_operand(insn.chip, side, [LocalTensor(addr, shape, strides, size)])
    return Operand(side, (_remote(insn, side, tuple(zip(shape, strides, strict=True)), size),))


def _moved(source: Operand, destination: Operand) -> Footprint:
    return Footprint((source,), (destination,))


def tensor_copy(insn: TensorCopy) -> Footprint:
    src_size, dst_size = insn.itemsizes()
    return _moved(
        _tensor(insn, "source", insn.src_shape, src_size), _tensor(insn, "destination", insn.dst_shape, dst_size)
    )


def fill_constant(insn: TensorFillConstant) -> Footprint:
    return Footprint((), (_tensor(insn, "destination", insn.dst_shape, ITEMSIZE[insn.regs.dst_fmt]),))


def general_copy(insn: GeneralCopy) -> Footprint:
    num_bytes = insn.regs.src_n_stride
    if not num_bytes:
        return Footprint((), ())

    def linear(side: str, addr: int, local: bool) -> Operand:
        return Operand(side, (region(LMEM, addr, (), num_bytes) if local else _remote(insn, side, (), num_bytes),))

    source = linear("source", insn.src_addr, insn.direction in LOCAL_SOURCE)
    return _moved(source, linear("destination", insn.dst_addr, insn.direction in LOCAL_DESTINATION))


def nc_transposed(insn: NcTransposed) -> Footprint:
    src_size, dst_size = insn.itemsizes()
    regs, source = insn.regs, _tensor(insn, "source", insn.src_shape, src_size)
    return _moved(source, _tensor(insn, "destination", (regs.src_c, regs.dst_c, regs.dst_h, regs.dst_w), dst_size))


def cw_transposed(insn: L2gTensorCopyCwTransposed) -> Footprint:
    return _moved(_tensor(insn, "source", insn.src_shape, 1), _tensor(insn, "destination", insn.dst_shape, 1))


def chw_rotated(insn: G2lTensorCopyChwRotated) -> Footprint:
    num_channels = 3 if insn.regs.transpose_md == TransposeMd.CHW_C3 else 4
    source = _tensor(insn, "source", insn.src_shape, 1, w_stride=num_channels)
    return _moved(source, _tensor(insn, "destination", insn.dst_shape, 1))


def _local_matrix(insn: MatrixTransfer, side: str, rows: int, columns: int, size: int) -> Operand:
    """The LMEM side: `rows` of `columns` elements in channels of w, the last of which may be shorter."""
    w = insn.local_shape[3]
    whole, rest = divmod(columns, w)
    addr, strides = (
        (insn.src_addr, insn.src_strides(size)) if side == "source" else (insn.dst_addr, insn.dst_strides(size))
    )
    tensor = LocalTensor(addr, (rows, 1, 1, w), (strides[0], strides[1], 0, size), size)
    pieces = [tensor.from_channel(0, whole, insn.chip)] if whole else []
    if rest:
        pieces.append(tensor._replace(shape=(rows, 1, 1, rest)).from_channel(whole, 1, insn.chip))
    return local_operand(insn.chip, side, pieces)


def matrix_copy(insn: MatrixCopy) -> Footprint:
    (src_size, dst_size), (rows, columns) = insn.itemsizes(), insn.matrix_shape
    if insn.direction == TransDir.L2G:
        far = _remote(insn, "destination", ((rows, insn.dst_c_stride),), columns * dst_size)
        return _moved(_local_matrix(insn, "source", rows, columns, src_size), Operand("destination", (far,)))
    far = _remote(insn, "source", ((rows, insn.src_c_stride),), columns * src_size)
    return _moved(Operand("source", (far,)), _local_matrix(insn, "destination", rows, columns, dst_size))


def row_col_transposed(insn: G2lMatrixCopyRowColTransposed) -> Footprint:
    rows, columns = insn.matrix_shape
    far = _remote(insn, "source", ((rows, insn.src_c_stride),), columns)
    return _moved(Operand("source", (far,)), _local_matrix(insn, "destination", columns, rows, 1))


def _stream(insn: Transfer, side: str, count: int, size: int) -> Operand:
    return Operand(side, (_remote(insn, side, (), stream_limit(count, size)),), at_most=True)


def decompressed(insn: G2lTensorCopyDecompressed) -> Footprint:
    src_size, dst_size = insn.itemsizes()
    shape = insn.dst_shape
    return _moved(_stream(insn, "source", math.prod(shape), src_size), _tensor(insn, "destination", shape, dst_size))


def compressed(insn: L2gTensorCopyCompressed) -> Footprint:
    shape, size = insn.src_shape, ITEMSIZE[insn.regs.src_fmt]
    return _moved(_tensor(insn, "source", shape, size), _stream(insn, "destination", math.prod(shape), size))


def matrix_decompressed(insn: G2lMatrixCopyDecompressed) -> Footprint:
    (rows, columns), size = insn.matrix_shape, ITEMSIZE[insn.regs.src_fmt]
    return _moved(
        _stream(insn, "source", rows * columns, size), _local_matrix(insn, "destination", rows, columns, size)
    )


def matrix_compressed(insn: L2gMatrixCopyCompressed) -> Footprint:
    (rows, columns), size = insn.matrix_shape, ITEMSIZE[insn.regs.src_fmt]
    return _moved(
        _local_matrix(insn, "source", rows, columns, size), _stream(insn, "destination", rows * columns, size)
    )


TDMA_FOOTPRINTS: tuple[tuple[type[TdmaInstruction], Callable[[Any], Footprint]], ...] = (
    (TensorCopy, tensor_copy),
    (TensorFillConstant, fill_constant),
    (GeneralCopy, general_copy),
    (MatrixCopy, matrix_copy),
    (G2lMatrixCopyRowColTransposed, row_col_transposed),
    (NcTransposed, nc_transposed),
    (L2gTensorCopyCwTransposed, cw_transposed),
    (G2lTensorCopyChwRotated, chw_rotated),
    (G2lTensorCopyDecompressed, decompressed),
    (L2gTensorCopyCompressed, compressed),
    (G2lMatrixCopyDecompressed, matrix_decompressed),
    (L2gMatrixCopyCompressed, matrix_compressed),
)
"""Each class with what gives the footprint of its instances."""

"""Footprints of the TIU's instructions. An operand counts as read whole, whatever part of it a window meets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npusim.footprint.operand import Footprint, LocalTensor, Operand, local_operand, per_channel, planes, tiu_tensor
from npusim.insn.base import TiuInstruction
from npusim.insn.elementwise import SHAPE, STRIDES, Elementwise
from npusim.insn.operands import addr_of, shape_of
from npusim.insn.post import READ_PS32, WRITE_PS32
from npusim.insn.tiu_arith import Add, Arith, Mac, MulQm
from npusim.insn.tiu_bitwise import ArithShift, Bitwise, Xor
from npusim.insn.tiu_conv import Convolution
from npusim.insn.tiu_depthwise_pool import AveragePooling, DepthwiseConvolution, MaxPooling, MinPooling
from npusim.insn.tiu_lut import TABLE_SIZE, LookupTable
from npusim.insn.tiu_matmul import MatrixMultiplication
from npusim.insn.tiu_mdsum import Mdsum
from npusim.mem.lmem import Shape


def _itemsize(insn: TiuInstruction) -> int:
    return 2 if insn.regs.opd_typ else 1


def _operand(
    insn: TiuInstruction, name: str, num_planes: int = 1, b_str: int = 0, shape: Shape | None = None
) -> Operand:
    """Operand `name` as `num_planes` tensors of the instruction's element type, `b_str` bytes apart."""
    return local_operand(insn.chip, name, planes(tiu_tensor(insn, name, _itemsize(insn), shape), num_planes, b_str))


def _post(insn: TiuInstruction) -> list[Operand]:
    """What convolutions read to finish a sum: quantisation records, or a bias in two planes."""
    regs = insn.regs
    has_bias = regs.tsk_opd_num == 3
    if regs.opt_chl_quan and not regs.opd_typ:
        return [local_operand(insn.chip, "opd2", [per_channel(insn, "opd2", 9 if has_bias else 5)])]
    if not has_bias:
        return []
    return [
        local_operand(
            insn.chip, "opd2", [per_channel(insn, "opd2", _itemsize(insn), at) for at in (0, regs.opd2_b_str)]
        )
    ]


def convolution(insn: Convolution) -> Footprint:
    regs, size = insn.regs, _itemsize(insn)
    partial_sum = _operand(insn, "res0", 4 // size, regs.res0_b_str)  # 32 bits in planes of bytes or halves
    reads = [_operand(insn, "opd0")]
    if not regs.opt_opd1_const:
        ic, _, kh, kw = shape_of(insn, "opd1")
        reads.append(local_operand(insn.chip, "opd1", [per_channel(insn, "opd1", kh * kw * ic * size)]))
    if regs.ps32_md & READ_PS32:
        reads.append(partial_sum)
    if regs.ps32_md & WRITE_PS32:
        return Footprint(tuple(reads), (partial_sum,))
    return Footprint((*reads, *_post(insn)), (_operand(insn, "res0"),))


def depthwise(insn: DepthwiseConvolution) -> Footprint:
    regs = insn.regs
    reads = [_operand(insn, "opd0")]
    if not regs.opt_opd1_const:
        reads.append(_operand(insn, "opd1", shape=(1, regs.res0_c, regs.opd1_h, regs.opd1_w)))
    return Footprint((*reads, *_post(insn)), (_operand(insn, "res0"),))


def pooling(insn: TiuInstruction) -> Footprint:
    return Footprint((_operand(insn, "opd0"),), (_operand(insn, "res0"),))


def matrix_multiplication(insn: MatrixMultiplication) -> Footprint:
    regs, size = insn.regs, _itemsize(insn)
    n, c, h, w = shape_of(insn, "res0")

    def matrix(name: str, num_planes: int, rows: int) -> Operand:
        """The result or the bias, its planes one whole matrix apart."""
        tensor = tiu_tensor(insn, name, size, (rows, c, h, w))
        return local_operand(insn.chip, name, planes(tensor, num_planes, rows * tensor.strides[0]))

    reads = [_left_matrix(insn, size), _operand(insn, "opd1", shape=(regs.opd1_n, c, 1, w))]
    if regs.opt_res_add:
        reads.append(matrix("res0", 2, n))
    if regs.ps32_md & READ_PS32:
        reads.append(matrix("res0", 4 // size, n))
    if regs.ps32_md & WRITE_PS32:
        return Footprint(tuple(reads), (matrix("res0", 4 // size, n),))
    if regs.tsk_opd_num == 3:
        reads.append(matrix("opd2", 2 if regs.opd_typ or not regs.opt_chl_quan else 4, 1))
    return Footprint(tuple(reads), (matrix("res0", 1 if regs.opd_typ or regs.opt_res0_seg else 2, n),))


def _left_matrix(insn: MatrixMultiplication, size: int) -> Operand:
    """opd0, whose last channel holds only opd1_w columns."""
    whole = tiu_tensor(insn, "opd0", size)
    n, c, h, _ = whole.shape
    pieces = [whole.from_channel(c - 1, 1, insn.chip)._replace(shape=(n, 1, h, insn.regs.opd1_w))]
    if c > 1:
        pieces.insert(0, whole.from_channel(0, c - 1, insn.chip))
    return local_operand(insn.chip, "opd0", pieces)


def elementwise(insn: Elementwise) -> Footprint:
    if not insn.regs.res0_n:
        return Footprint((), ())
    wide0, wide1, wide_res, size = _widths(insn)
    names = (("opd0", wide0), ("opd1", wide1))[: insn.num_operands]
    reads = [_elements(insn, name, size, wide) for name, wide in names if insn.is_tensor(name)]
    if isinstance(insn, Mac):  # the accumulator has 16 bits, whatever the result has
        reads.append(_elements(insn, "res0", size, not insn.regs.opd_typ))
    if isinstance(insn, Xor) and len(reads) == 2 and reads[0].regions == reads[1].regions:
        reads = []  # x ^ x is 0 whatever x is: how programs clear LMEM
    return Footprint(tuple(reads), (_elements(insn, "res0", size, wide_res),))


def _widths(insn: Elementwise) -> tuple[bool, bool, bool, int]:
    """Whether opd0, opd1 and res0 are two planes, and the bytes of an element of one plane."""
    regs, narrow = insn.regs, bool(insn.regs.opt_res0_seg)
    if isinstance(insn, ArithShift):
        return True, False, True, 1
    if isinstance(insn, Bitwise):
        return not narrow, not narrow, not narrow, 1
    assert isinstance(insn, Arith)
    if isinstance(insn, MulQm):
        return False, False, not narrow, 1
    if regs.opd_typ:
        return False, False, False, 2
    wide = isinstance(insn, Add)
    return wide, wide, not narrow, 1


def _elements(insn: Elementwise, name: str, size: int, wide: bool) -> Operand:
    tensor = LocalTensor(addr_of(insn, name), SHAPE["res0"](insn.regs), STRIDES[name](insn.regs), size)
    return local_operand(insn.chip, name, planes(tensor, 2 if wide else 1, getattr(insn.regs, f"{name}_b_str")))


def lookup_table(insn: LookupTable) -> Footprint:
    # Of a bf16 index only the low byte is looked at.
    indices = local_operand(insn.chip, "opd0", [tiu_tensor(insn, "opd0", _itemsize(insn))._replace(itemsize=1)])
    return Footprint((indices, _tables(insn)), (_operand(insn, "res0"),))


def _tables(insn: LookupTable) -> Operand:
    """Only the tables that the result's channels take: as many as there are channels, or all."""
    whole, lanes = tiu_tensor(insn, "opd1", _itemsize(insn)), insn.chip.num_lanes
    flat = whole._replace(shape=(1, lanes, 1, TABLE_SIZE), strides=(0, whole.strides[1], 0, whole.itemsize))
    first, count = (insn.regs.res0_addr >> 16) % lanes, min(shape_of(insn, "res0")[1], lanes)
    runs = ((first, min(count, lanes - first)), (0, first + count - lanes))
    return local_operand(insn.chip, "opd1", [flat.from_channel(at, c, insn.chip) for at, c in runs if c > 0])


def mdsum(insn: Mdsum) -> Footprint:
    sums = planes(tiu_tensor(insn, "res0", 1), 1 if insn.regs.opt_res0_seg else 2, 1)
    reads = local_operand(insn.chip, "opd0", [tiu_tensor(insn, "opd0", 1)])
    return Footprint((reads,), (local_operand(insn.chip, "res0", sums),))


TIU_FOOTPRINTS: tuple[tuple[type[TiuInstruction], Callable[[Any], Footprint]], ...] = (
    (Convolution, convolution),
    (DepthwiseConvolution, depthwise),
    (MaxPooling, pooling),
    (MinPooling, pooling),
    (AveragePooling, pooling),
    (MatrixMultiplication, matrix_multiplication),
    (Elementwise, elementwise),
    (LookupTable, lookup_table),
    (Mdsum, mdsum),
)
"""Each class with what gives the footprint of its instances."""

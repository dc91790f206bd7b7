"""Footprints of the TIU's instructions. An operand counts as read whole, whatever part of it a window meets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npusim.footprint.operand import Footprint, Operand, local_tensor, tiu_per_channel, tiu_planes
from npusim.footprint.region import Region
from npusim.insn.base import TiuInstruction
from npusim.insn.elementwise import SHAPE, STRIDES, Elementwise
from npusim.insn.operands import addr_of, shape_of, strides_of
from npusim.insn.post import READ_PS32, WRITE_PS32
from npusim.insn.tiu_arith import Add, Arith, Mac, MulQm
from npusim.insn.tiu_bitwise import ArithShift, Bitwise, Xor
from npusim.insn.tiu_conv import Convolution
from npusim.insn.tiu_depthwise_pool import AveragePooling, DepthwiseConvolution, MaxPooling, MinPooling
from npusim.insn.tiu_lut import TABLE_SIZE, LookupTable
from npusim.insn.tiu_matmul import MatrixMultiplication
from npusim.insn.tiu_mdsum import Mdsum

Operands = list[Operand]


def _itemsize(insn: TiuInstruction) -> int:
    return 2 if insn.regs.opd_typ else 1


def _partial_sum(insn: TiuInstruction, b_str: int) -> Operand:
    """The 32-bit sum in res0: four planes of bytes, or two of halves."""
    size = _itemsize(insn)
    return Operand("res0", tiu_planes(insn, "res0", size, 4 // size, b_str))


def _post(insn: TiuInstruction) -> Operands:
    """What convolutions read to finish a sum: quantisation records, or a bias in two planes."""
    regs = insn.regs
    has_bias = regs.tsk_opd_num == 3
    if regs.opt_chl_quan and not regs.opd_typ:
        return [Operand("opd2", tiu_per_channel(insn, "opd2", 9 if has_bias else 5))]
    if not has_bias:
        return []
    size = _itemsize(insn)
    return [Operand("opd2", tiu_per_channel(insn, "opd2", size) + tiu_per_channel(insn, "opd2", size, regs.opd2_b_str))]


def convolution(insn: Convolution) -> Footprint:
    regs, size = insn.regs, _itemsize(insn)
    reads = [Operand("opd0", tiu_planes(insn, "opd0", size))]
    if not regs.opt_opd1_const:
        ic, _, kh, kw = shape_of(insn, "opd1")
        reads.append(Operand("opd1", tiu_per_channel(insn, "opd1", kh * kw * ic * size)))
    if regs.ps32_md & READ_PS32:
        reads.append(_partial_sum(insn, regs.res0_b_str))
    if regs.ps32_md & WRITE_PS32:
        return Footprint(tuple(reads), (_partial_sum(insn, regs.res0_b_str),))
    return Footprint((*reads, *_post(insn)), (Operand("res0", tiu_planes(insn, "res0", size)),))


def depthwise(insn: DepthwiseConvolution) -> Footprint:
    regs, size = insn.regs, _itemsize(insn)
    reads = [Operand("opd0", tiu_planes(insn, "opd0", size))]
    if not regs.opt_opd1_const:
        reads.append(Operand("opd1", tiu_planes(insn, "opd1", size, shape=(1, regs.res0_c, regs.opd1_h, regs.opd1_w))))
    return Footprint((*reads, *_post(insn)), (Operand("res0", tiu_planes(insn, "res0", size)),))


def pooling(insn: TiuInstruction) -> Footprint:
    size = _itemsize(insn)
    return Footprint((Operand("opd0", tiu_planes(insn, "opd0", size)),), (Operand("res0", tiu_planes(insn, "res0", size)),))


def matrix_multiplication(insn: MatrixMultiplication) -> Footprint:
    regs, size = insn.regs, _itemsize(insn)
    res = shape_of(insn, "res0")

    def result(num_planes: int) -> Operand:
        b_str = res[0] * strides_of(insn, "res0", res, size)[0]
        return Operand("res0", tiu_planes(insn, "res0", size, num_planes, b_str))

    num_partial = 4 // size
    finished = 1 if regs.opd_typ or regs.opt_res0_seg else 2
    reads = [_left_matrix(insn, size), Operand("opd1", tiu_planes(insn, "opd1", size, shape=(regs.opd1_n, res[1], 1, res[3])))]
    if regs.opt_res_add:
        reads.append(result(2))
    if regs.ps32_md & READ_PS32:
        reads.append(result(num_partial))
    if regs.ps32_md & WRITE_PS32:
        return Footprint(tuple(reads), (result(num_partial),))
    if regs.tsk_opd_num == 3:
        shape = (1, *res[1:])
        num_planes = 2 if regs.opd_typ or not regs.opt_chl_quan else 4
        reads.append(Operand("opd2", tiu_planes(insn, "opd2", size, num_planes, strides_of(insn, "opd2", shape, size)[0], shape)))
    return Footprint(tuple(reads), (result(finished),))


def _left_matrix(insn: MatrixMultiplication, size: int) -> Operand:
    """opd0, whose last channel holds only opd1_w columns."""
    n, c, _, w = shape = shape_of(insn, "opd0")
    addr, strides = addr_of(insn, "opd0"), strides_of(insn, "opd0", shape, size)
    last = local_tensor(insn.chip, addr, (n, 1, 1, insn.regs.opd1_w), strides, size, first=c - 1)
    return Operand("opd0", last if c == 1 else local_tensor(insn.chip, addr, (n, c - 1, 1, w), strides, size) + last)


def elementwise(insn: Elementwise) -> Footprint:
    if not insn.regs.res0_n:
        return Footprint((), ())
    wide0, wide1, wide_res, size = _widths(insn)
    names = (("opd0", wide0), ("opd1", wide1))[: insn.num_operands]
    reads = [_element_planes(insn, name, size, wide) for name, wide in names if insn.is_tensor(name)]
    if isinstance(insn, Mac):  # the accumulator has 16 bits, whatever the result has
        reads.append(_element_planes(insn, "res0", size, not insn.regs.opd_typ))
    if isinstance(insn, Xor) and len(reads) == 2 and reads[0].regions == reads[1].regions:
        reads = []  # x ^ x is 0 whatever x is: how programs clear LMEM
    return Footprint(tuple(reads), (_element_planes(insn, "res0", size, wide_res),))


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


def _element_planes(insn: Elementwise, name: str, size: int, wide: bool) -> Operand:
    regs = insn.regs
    places = (0, getattr(regs, f"{name}_b_str")) if wide else (0,)
    shape, strides, addr = SHAPE["res0"](regs), STRIDES[name](regs), addr_of(insn, name)
    return Operand(name, tuple(r for at in places for r in local_tensor(insn.chip, addr + at, shape, strides, size)))


def lookup_table(insn: LookupTable) -> Footprint:
    size = _itemsize(insn)
    reads = Operand("opd0", tiu_planes(insn, "opd0", size)), Operand("opd1", _tables(insn, size))
    return Footprint(reads, (Operand("res0", tiu_planes(insn, "res0", size)),))


def _tables(insn: LookupTable, size: int) -> tuple[Region, ...]:
    """Only the tables that the result's channels take: as many as there are channels, or all."""
    shape, addr, lanes = shape_of(insn, "opd1"), addr_of(insn, "opd1"), insn.chip.num_lanes
    strides = strides_of(insn, "opd1", shape, size)
    first, count = (insn.regs.res0_addr >> 16) % lanes, min(shape_of(insn, "res0")[1], lanes)
    runs = ((first, min(count, lanes - first)), (0, first + count - lanes))
    table = (0, strides[1], 0, size)
    return tuple(r for at, c in runs if c > 0 for r in local_tensor(insn.chip, addr, (1, c, 1, TABLE_SIZE), table, size, at))


def mdsum(insn: Mdsum) -> Footprint:
    num_planes = 1 if insn.regs.opt_res0_seg else 2
    return Footprint((Operand("opd0", tiu_planes(insn, "opd0", 1)),), (Operand("res0", tiu_planes(insn, "res0", 1, num_planes, 1)),))


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

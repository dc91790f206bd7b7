"""How long each command's work takes on a board. The TIU and LMEM run on the TPU's clock, DRAM on its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Floats
from npusim.board import Board
from npusim.insn.tiu_arith import Add, Copy, Mac, Mul, MulQm, Sub
from npusim.insn.tiu_bitwise import ArithShift
from npusim.insn.tiu_conv import Convolution
from npusim.insn.tiu_depthwise_pool import AveragePooling, DepthwiseConvolution, MaxPooling, MinPooling
from npusim.insn.tiu_lut import TABLE_SIZE, LookupTable
from npusim.insn.tiu_matmul import MatrixMultiplication
from npusim.isa.opcodes import TransDir
from npusim.timing.bursts import BEAT_BYTES
from npusim.timing.constants import Costs
from npusim.timing.tdma_work import TdmaWork
from npusim.timing.tiu_work import TiuWork

_POOLS = (MaxPooling, MinPooling)


def tiu_cycles(work: TiuWork, board: Board, costs: Costs) -> Floats:
    """Cycles of every TIU command."""
    return work.units * unit_cycles(work, board, costs) + startup_cycles(work, costs)


def startup_cycles(work: TiuWork, costs: Costs) -> Floats:
    """Cycles that every TIU command takes beside those of its units."""
    post = np.where(work.per_channel, costs.per_channel_post, costs.per_tensor_post)
    convolves = work.is_a(Convolution, DepthwiseConvolution)
    choices = (
        (convolves, costs.conv_startup + post),
        (work.is_a(MatrixMultiplication), costs.matmul_startup + work.per_channel * costs.matmul_per_channel),
        (work.is_a(*_POOLS), costs.pool_startup),
        (work.is_a(AveragePooling), costs.average_startup),
    )
    return np.select([which for which, _ in choices], [values for _, values in choices], costs.eltwise_startup)


def unit_cycles(work: TiuWork, board: Board, costs: Costs) -> Floats:
    """Cycles of one unit of every TIU command."""
    double = work.double & ~work.bf16
    steps = -(-work.depth // np.where(double, 2, 1))
    exposed = costs.exposed_line * work.lines * steps * (double & (board.chip.num_lanes == 2))
    floor = np.where(work.per_channel & ~work.bf16, costs.per_channel_floor, 0)
    partial = np.where(work.partial > 0, costs.partial_sum, 0)
    conv = np.maximum(work.taps * steps, work.lines) + exposed + costs.conv_per_unit + partial
    average = work.lines + np.where(work.bf16, costs.average_bf16_per_unit, costs.average_per_unit)
    choices = (
        (work.is_a(Convolution), np.maximum(conv, floor)),
        (work.is_a(DepthwiseConvolution), np.maximum(work.lines + costs.depthwise_per_unit, floor)),
        (work.is_a(AveragePooling), average),
        (work.is_a(*_POOLS), work.lines),
        (work.is_a(MatrixMultiplication), work.depth + partial),
        (work.is_a(LookupTable), TABLE_SIZE / np.where(work.bf16, 8, 16) * costs.table_line + costs.table_per_unit),
    )
    return np.select([which for which, _ in choices], [values for _, values in choices], _eltwise_cycles(work, costs))


def _eltwise_cycles(work: TiuWork, costs: Costs) -> Floats:
    """Cycles of one unit of the operations on elements."""
    wide = work.wide_source
    product = np.where(wide, costs.mul_wide_unit, costs.mul_unit) + np.where(
        work.wide_result, costs.wide_result, costs.mul_narrow
    )
    written = work.wide_result * costs.wide_result
    sums = np.where(wide, costs.add_wide_unit, costs.add_unit) + written
    choices = (
        (
            work.is_a(Mac),
            np.where(work.bf16, costs.bf16_mac_unit, np.where(wide, costs.mac_wide_unit, costs.mac_unit) + written),
        ),
        (work.is_a(Copy), costs.copy_unit),
        (work.bf16, costs.bf16_unit),
        (work.is_a(Mul, MulQm), product),
        (work.is_a(Add, Sub), sums),
        (work.is_a(ArithShift), costs.shift_unit),
    )
    other = np.where(wide, costs.logic_wide_unit, costs.logic_unit)
    cycles = np.select([which for which, _ in choices], [values for _, values in choices], other)
    return cycles * np.where(work.aligned, 1.0, costs.unaligned_write)


def tdma_ps(work: TdmaWork, board: Board, costs: Costs, conflicts: NDArray[np.bool_]) -> Floats:
    """Picoseconds of every TDMA command; `conflicts` is Workload.conflicts."""
    tick, ps_of_beat = board.tick_ps, BEAT_BYTES * 1000 / (board.peak_gbps * costs.dram_efficiency)
    stream = np.where(work.compressed, costs.compression, 1.0)
    lines = work.lines * costs.lmem_line
    loading = np.maximum(work.read_beats + work.splits * costs.row, lines)
    moving = work.lines * costs.move_line
    lmem_cycles = np.select([work.direction == TransDir.G2L, work.direction == TransDir.L2L], [loading, moving], lines)
    dram_ps = (work.read_beats + work.write_beats) * stream * ps_of_beat
    startup = np.select(
        [work.direction == TransDir.L2G, work.direction == TransDir.L2L],
        [costs.store_startup, costs.move_startup],
        costs.load_startup + np.where(work.compressed, costs.decompress_startup, 0),
    )
    waiting = np.where(conflicts, work.lines * costs.bank_conflict, 0)
    return (startup + waiting) * tick + np.maximum(dram_ps, lmem_cycles * tick)

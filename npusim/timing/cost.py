"""From work to picoseconds on a board. The TIU and LMEM count TPU cycles, DRAM counts nanoseconds of its own clock."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.board import Board
from npusim.insn.tiu_arith import Copy, Mac, Mul, MulQm
from npusim.insn.tiu_conv import Convolution
from npusim.insn.tiu_depthwise_pool import AveragePooling, DepthwiseConvolution, MaxPooling, MinPooling
from npusim.insn.tiu_lut import LookupTable
from npusim.insn.tiu_matmul import MatrixMultiplication
from npusim.isa.opcodes import TransDir
from npusim.timing.bursts import BEAT_BYTES
from npusim.timing.constants import Costs
from npusim.timing.tdma_work import TdmaWork
from npusim.timing.tiu_work import TiuWork

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def tiu_cycles(work: TiuWork, board: Board, costs: Costs) -> Floats:
    """Cycles of every TIU command."""
    return work.units * unit_cycles(work, board, costs) + _startup(work, costs)


def _startup(work: TiuWork, costs: Costs) -> Floats:
    per_tensor = costs.conv_startup - costs.per_channel_post + costs.per_tensor_post
    startup = np.full(len(work), costs.eltwise_startup)
    startup[work.is_a(Convolution, DepthwiseConvolution)] = per_tensor
    startup[work.is_a(Convolution, DepthwiseConvolution) & work.per_channel] = costs.conv_startup
    startup[work.is_a(MatrixMultiplication)] = costs.matmul_startup
    startup[work.is_a(MaxPooling, MinPooling)] = costs.pool_startup
    startup[work.is_a(AveragePooling)] = costs.average_startup
    return startup


def unit_cycles(work: TiuWork, board: Board, costs: Costs) -> Floats:
    """Cycles of one unit of every TIU command."""
    rate = np.where(work.double & ~work.bf16, board.chip.conv_channels, 1)
    steps = work.taps * -(-work.depth // rate)
    floor = np.where(work.per_channel & ~work.bf16, costs.per_channel_floor, 0)
    cycles = _eltwise(work)
    choices = (
        (Convolution, np.maximum(np.maximum(steps, work.lines) + costs.conv_per_unit, floor)),
        (DepthwiseConvolution, np.maximum(work.lines + costs.depthwise_per_unit, floor)),
        (AveragePooling, np.maximum(work.lines + costs.average_per_unit, 0)),
        (MatrixMultiplication, np.asarray(work.depth, np.float64)),
    )
    for kind, values in choices:
        cycles = np.where(work.is_a(kind), values, cycles)
    return np.where(work.is_a(MaxPooling, MinPooling), work.lines, cycles)


def _eltwise(work: TiuWork) -> Floats:
    """Cycles a unit of the operations on elements (PROFILER's table, mul, mac and copy as measured)."""
    cycles = np.where(work.wide_source, 5.0, 3.0)
    cycles = np.where(work.is_a(Copy), 2.5, cycles)
    cycles = np.where(work.is_a(Mac), np.where(work.bf16, 3.5, 8.0), cycles)
    product = np.where(work.wide_source, 4.5, 2.5) + np.where(work.wide_result, 1.0, 3.0)
    cycles = np.where(work.is_a(Mul, MulQm), np.where(work.bf16, 3.0, product), cycles)
    return np.where(work.is_a(LookupTable), np.where(work.bf16, 32, 16) + 1.0, cycles)


def tdma_ps(work: TdmaWork, board: Board, costs: Costs) -> Floats:
    """Picoseconds of every TDMA command."""
    plain = np.where(work.compressed, costs.compression, 1.0)
    ps_of_beat = BEAT_BYTES * 1000 / (board.peak_gbps * costs.dram_efficiency)
    tick = board.tick_ps
    read, write = work.read_beats * plain, work.write_beats * plain
    load = costs.load_startup * tick + np.maximum(read * ps_of_beat, (work.read_beats + work.splits * costs.load_row) * tick)
    store = costs.store_startup * tick + np.maximum(write * ps_of_beat, work.lines * costs.lmem_line * tick)
    move = (costs.move_startup + work.lines * costs.lmem_line + work.rows * costs.load_row) * tick
    copy = costs.load_startup * tick + (read + write) * ps_of_beat
    return np.select([work.direction == d for d in (TransDir.G2L, TransDir.L2G, TransDir.L2L)], [load, store, move], copy)

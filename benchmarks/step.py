"""A step compiled by the vendor's compiler, compared with npusim's own lowering of it, with the vendor's weights and
inputs: predicted times on boards of both chips, and how near the own logits come to the vendor's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.claim import Say
from benchmarks.support import layer_norm_step as step
from benchmarks.support.layer_norm_step import StepWeights, lower_step
from golden import read_archive
from npusim import Machine, chip_named
from npusim.board import Board, board_named
from npusim.insn.tdma_vlc import G2lMatrixCopyDecompressed
from npusim.kernels.tensors import Fmt
from npusim.loader.cvimodel import load_cvimodel
from npusim.mem.gmem import physical_addr
from npusim.numerics import bf16
from npusim.numerics.vlc_decode import decompress, stream_limit
from npusim.program.decode import decode_cmdbuf
from npusim.program.model import cmdbufs_of_model
from npusim.runtime.model import Model
from npusim.timing import time_workload, workload_of_bytes, workload_of_model
from reference_model.quant.arith import F32

DATA = Path(__file__).parents[1] / "golden" / "data" / "functional"
BOARDS = ("duo256m", "duo")
FORMATS = {"bf16": Fmt.BF16, "int8": Fmt.I8}


def vendor_weights() -> StepWeights:
    """The matrices that the vendor's bf16 program multiplies by, float32 of bf16 numbers, as its DMA decompresses
    them."""
    path = DATA / "step_cv181x_bf16.cvimodel"
    state = Model(path).state
    found: list[F32] = []
    (cmdbuf,) = cmdbufs_of_model(load_cvimodel(path))
    for instruction in decode_cmdbuf(cmdbuf):
        if isinstance(instruction, G2lMatrixCopyDecompressed):
            start = physical_addr(state, instruction.regs.src_base_reg_sel, instruction.src_addr)
            rows, columns = instruction.matrix_shape
            stream = state.gmem.bytes[start : start + stream_limit(rows * columns, 2)]
            elements: NDArray[np.uint16] = decompress(stream, rows * columns, 2)
            found.append(bf16.to_float(elements.reshape(rows, columns)))
    tensors: dict[str, NDArray[Any]] = dict(read_archive(DATA / "step_cv181x_bf16.out.npz"))
    normed = bf16.to_float(tensors["x/n1/Add_1_output_0_LayerNormalization_bf16"].reshape(1, -1))
    k, v = (tensors[f"onnx::Concat_{n}_Reshape_f32"].reshape(-1) for n in (34, 38))
    key, value = (min(range(3), key=lambda i: np.abs(normed @ found[i] - wanted).sum()) for wanted in (k, v))
    query = 3 - key - value
    output, up, gate, down, head = found[3:]
    return StepWeights(found[query], found[key], found[value], output, gate, up, down, head)


def own_logits(weights: StepWeights, chip: str, fmt: Fmt, given: dict[str, NDArray]) -> NDArray[np.float32]:
    lowered = lower_step(chip_named(chip), weights, fmt)
    machine = Machine(chip)
    k_cache, v_cache = (given[name].reshape(step.HEADS, step.CACHED, step.HEAD_DIM) for name in ("kc", "vc"))
    for addr, data in (
        lowered.memory | step.inputs(given["x"].reshape(-1), k_cache, v_cache, given["mask"].reshape(-1))
    ).items():
        machine.gmem.write(addr, data)
    machine.run_cmdbuf(lowered.program.cmdbuf)
    return bf16.to_float(np.frombuffer(machine.gmem.read(step.LOGITS, 2 * step.VOCAB), np.uint16))


def vendor_ms(board: Board, precision: str) -> float:
    return time_workload(workload_of_model(DATA / f"step_{board.chip.name}_{precision}.cvimodel"), board).ms


def own_ms(board: Board, precision: str, weights: StepWeights) -> float:
    program = lower_step(board.chip, weights, FORMATS[precision]).program
    return time_workload(workload_of_bytes(board.chip, program.cmdbuf), board).ms


def cosine(board: Board, precision: str, weights: StepWeights) -> float:
    """Of the own lowering's logits with those that the vendor's functional model gave for the vendor's bf16 program."""
    own = own_logits(weights, board.chip.name, FORMATS[precision], dict(read_archive(DATA / "step.in.npz"))).astype(
        np.float64
    )
    recorded = (
        read_archive(DATA / f"step_{board.chip.name}_bf16.out.npz")["75_MatMul_f32"].reshape(-1).astype(np.float64)
    )
    return float(own @ recorded / np.linalg.norm(own) / np.linalg.norm(recorded))


@dataclass(frozen=True)
class Row:
    """A board and a format: the predicted times of both programs, and how near the own logits are."""

    board: str
    precision: str
    vendor_ms: float
    own_ms: float
    cosine: float

    @property
    def ratio(self) -> float:
        return self.own_ms / self.vendor_ms


@cache
def rows() -> list[Row]:
    weights, found = vendor_weights(), []
    for board in map(board_named, BOARDS):
        for precision in FORMATS:
            times = vendor_ms(board, precision), own_ms(board, precision, weights)
            found.append(Row(board.name, precision, *times, cosine=cosine(board, precision, weights)))
    return found


def show(say: Say) -> list[Row]:
    say("board    precision  vendor's ms  own ms  own / vendor's  cosine of own logits with the vendor's in bf16")
    for row in rows():
        times = f"{row.vendor_ms:11.3f}  {row.own_ms:6.3f}  {row.ratio:14.2f}"
        say(f"{row.board:8} {row.precision:9}  {times}  {row.cosine:.6f}")
    return rows()


def time(say: Say) -> float:
    """Time of the own lowering over that of the vendor's program: the most of both boards and both formats."""
    return max(row.ratio for row in show(say))


def logits(say: Say) -> float:
    """Cosine of the own logits with the vendor's: the least of both boards and both formats."""
    return min(row.cosine for row in show(say))

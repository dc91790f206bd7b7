"""How close a decoder layer comes to the DRAM's speed, and how much time is saved by waits that follow from operands.

One token through layers of SmolLM2-135M's sizes as npusim.llm lowers them, 16 pages for each KV head (8 on cv180x),
predicted by npusim.timing. The bound is the time to read the weights alone at the bandwidth that large blocks reach.
The peer is the same program with cvikernel's serial waits, in which every command waits for all before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from benchmarks.claim import Say
from npusim.board import Board, board_named
from npusim.kernels import Program, tg
from npusim.kernels.cache import PAGE_SIZE
from npusim.kernels.rows import BF16
from npusim.kernels.weights import DEFAULT_BUFFER_BYTES
from npusim.llm import Precision, Setup, decoder
from npusim.llm.layout import lay_out_model
from npusim.llm.setup import PRECISIONS
from npusim.llm.weights import MATRICES
from npusim.timing import Timeline, constants, time_workload, workload_of_bytes
from reference_model.config import ModelConfig

LAYERS = 3
CONFIG = ModelConfig(49152, 576, 1536, LAYERS, 9, 3, 64, 8192)


@dataclass(frozen=True)
class Step:
    """A program and the bytes of weights that it reads."""

    program: Program
    weight_bytes: int


def build(board: Board, precision: Precision, pages: int, sync: str) -> Step:
    """All layers of one token, without the head."""
    layout = lay_out_model(Setup(board, precision, pages * PAGE_SIZE), CONFIG, DEFAULT_BUFFER_BYTES)
    strips = [strip for layer in layout.weights.layers for name in MATRICES for strip in layer[name]]
    ctx = decoder.start(layout, strips, decoder.Batch(1, 1, pages), sync=sync)
    for layer in range(LAYERS):
        decoder.whole_layer(ctx, layer)
    ctx.b.tdma_l2g_tensor_copy(ctx.x, tg(layout.addresses.x, ctx.x.shape, BF16))
    return Step(ctx.b.build(), sum(strip.plan.num_bytes for strip in strips))


@dataclass(frozen=True)
class Row:
    """A board and a weight format: the time with waits from the operands, and with cvikernel's serial waits."""

    board: Board
    precision: Precision
    step: Step
    hazards: Timeline
    serial: Timeline

    @property
    def share(self) -> float:
        """The time to read the weights alone, over the predicted time."""
        efficiency = next(value for name, value, *_ in constants() if name == "dram_efficiency")
        return self.step.weight_bytes / (self.board.peak_gbps * 1e6 * efficiency) / self.hazards.ms

    @property
    def saved(self) -> float:
        """How many times as long the program takes with serial waits."""
        return self.serial.ms / self.hazards.ms

    def __str__(self) -> str:
        return (
            f"{self.board.name:9} {self.precision:8} {self.hazards.ms / LAYERS:10.3f} {self.share:11.1%} "
            f"{self.hazards.tdma_busy:10.1%} {self.saved:12.2f}x {self.step.program.lmem_bytes:7,}"
        )


@cache
def rows() -> list[Row]:
    found = []
    for name, pages in (("duo256m", 16), ("duo", 8)):
        board = board_named(name)
        for precision in PRECISIONS:
            steps = {sync: build(board, precision, pages, sync) for sync in ("hazards", "vendor")}
            ours, serial = (
                time_workload(workload_of_bytes(board.chip, step.program.cmdbuf), board) for step in steps.values()
            )
            found.append(Row(board, precision, steps["hazards"], ours, serial))
    return found


def show(say: Say) -> list[Row]:
    say("board     weights  ms a layer  DRAM bound  TDMA busy  serial waits    LMEM")
    for row in rows():
        say(str(row))
    return rows()


def dram_bound(say: Say) -> float:
    """Percent of the predicted time that reading the weights takes: the least of both boards and both formats."""
    return 100 * min(row.share for row in show(say))


def waits(say: Say) -> float:
    """How many times as long a layer takes with serial waits: the least of both boards and both formats."""
    return min(row.saved for row in show(say))

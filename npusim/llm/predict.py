"""Predicts how long a token takes on the board: the chip's programs, the CPU's work between them, and submits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from npusim.board import Board, Host
from npusim.errors import UsageError
from npusim.llm.cpu_cost import CpuCosts
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.pages import num_blocks
from npusim.llm.setup import Gather
from npusim.timing import TDMA, TIU, Timeline, time_workload, workload_of_bytes


@dataclass(frozen=True)
class StepTime:
    """The time of one decode step.

    chip_ms     from the first to the last command of each program, added up
    submit_ms   starting programs and waiting for them
    cpu_ms      embedding, choice of pages, patching or copying, choice of the token
    tiu_ms, tdma_ms   how long each engine works during chip_ms
    dram_bytes  read and written by the chip
    num_patched descriptors that the CPU may have to patch
    """

    chip_ms: float
    cpu_ms: float
    submit_ms: float
    tiu_ms: float
    tdma_ms: float
    dram_bytes: int
    num_patched: int
    storage_ms: float = 0.0
    """Reading weights that do not fit in memory, before the chip can use them."""

    @property
    def ms(self) -> float:
        """Time of the whole step: chip, CPU, submits and storage follow one another."""
        return self.chip_ms + self.cpu_ms + self.submit_ms + self.storage_ms

    @property
    def tokens_per_second(self) -> float:
        return 1000 / self.ms

    @property
    def binds(self) -> str:
        """What takes most of the time: "DRAM", "TIU", "CPU", "submit" or "storage"."""
        chip = "DRAM" if self.tdma_ms >= self.tiu_ms else "TIU"
        return max(
            ((self.chip_ms, chip), (self.cpu_ms, "CPU"), (self.submit_ms, "submit"), (self.storage_ms, "storage"))
        )[1]


def streamed(step: StepTime, weight_bytes: int, host: Host) -> StepTime:
    """`step` if all weights are read from the board's storage for every token, before the chip computes. Raises
    UsageError if the storage's speed is not known."""
    if not host.storage_bytes_per_s:
        raise UsageError("the speed of this board's storage is not known: give a board whose storage was measured")
    return replace(step, storage_ms=weight_bytes / host.storage_bytes_per_s * 1000)


class Predictor:
    """Predicts times of a lowered model. Each program's timelines are computed once."""

    def __init__(self, lowered: LoweredModel, board: Board | None = None) -> None:
        """`board`: the one to predict for, by default the one that the model was lowered for. It must have the same
        chip."""
        self.lowered = lowered
        self.board = board or lowered.setup.board
        self.cpu = CpuCosts(self.board.host)
        self._timelines: dict[str, tuple[Timeline, ...]] = {}

    def timelines(self, name: str) -> tuple[Timeline, ...]:
        """A timeline for each command buffer of the program called `name`."""
        if name not in self._timelines:
            program, board = self.lowered.programs[name], self.board
            self._timelines[name] = tuple(
                time_workload(workload_of_bytes(program.chip, c), board) for c in program.cmdbufs
            )
        return self._timelines[name]

    def decode(self, length: int) -> StepTime:
        """The time of a step after which the sequence has `length` tokens. The chip's part does not depend on the
        length, since its programs are static."""
        lowered, setup, config = self.lowered, self.lowered.setup, self.lowered.config
        timelines = [timeline for name in lowered.decode for timeline in self.timelines(name)]
        blocks = num_blocks(length)
        moved = sum(len(lowered.programs[name].relocations) for name in lowered.decode)
        cpu_us = self.cpu.embed(2 * config.hidden_size) + self.cpu.argmax(config.vocab_size)
        if setup.prunes and blocks > setup.num_slots:
            choose = self.cpu.choose_pages(config.num_kv_heads, config.group_size, blocks, setup.num_slots)
            cpu_us += config.num_layers * choose
        if setup.gather is Gather.COPY:
            page_bytes = 2 * config.num_layers * config.num_kv_heads * setup.num_slots * lowered.pages.page_stride
            cpu_us += self.cpu.copy(page_bytes) + config.num_layers * self.cpu.invalidate(
                page_bytes / config.num_layers
            )
        cpu_us += self.cpu.patches(moved)
        return StepTime(
            chip_ms=sum(t.ms for t in timelines),
            cpu_ms=cpu_us / 1000,
            submit_ms=self._submit_ms(timelines),
            tiu_ms=sum(t.busy_ps(TIU) for t in timelines) / 1e9,
            tdma_ms=sum(t.busy_ps(TDMA) for t in timelines) / 1e9,
            dram_bytes=sum(t.dram_read_bytes + t.dram_write_bytes for t in timelines),
            num_patched=moved,
        )

    def _submit_ms(self, timelines: Sequence[Timeline]) -> float:
        return len(timelines) * self.board.host.submit_us / 1000

    def prefill_ms(self, num_tokens: int) -> float:
        """The time of a prompt: in chunks, and in decode steps for the rest."""
        chunk, done, ms = self.lowered.setup.chunk, 0, 0.0
        while num_tokens - done > chunk and (program := self.lowered.prefill_for(done + chunk)):
            done += chunk
            timelines = self.timelines(program.name)
            ms += sum(timeline.ms for timeline in timelines) + self._submit_ms(timelines)
        return ms + sum(self.decode(length).ms for length in range(done + 1, num_tokens + 1))

"""Predicts how long a token takes on the board: the chip's programs, the CPU's work between them, and submits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from npusim.board import Board, Host
from npusim.errors import UsageError
from npusim.kernels.cache import PAGE_SIZE
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
    rows: int = 1
    """Sequences that it decodes together, each by a token."""
    storage_ms: float = 0.0
    """Reading weights that do not fit in memory, before the chip can use them."""

    @property
    def ms(self) -> float:
        """Time of the whole step: chip, CPU, submits and storage follow one another."""
        return self.chip_ms + self.cpu_ms + self.submit_ms + self.storage_ms

    @property
    def tokens_per_second(self) -> float:
        """Of all rows together."""
        return 1000 * self.rows / self.ms

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

    def program_ms(self, name: str) -> float:
        """The chip's time for the program called `name`, all its command buffers, without submitting them."""
        return sum(timeline.ms for timeline in self.timelines(name))

    def decode(self, length: int, rows: int = 1) -> StepTime:
        """A step of `rows` sequences, each of which becomes `length` tokens long; its programs may have more rows. The
        chip's part does not depend on lengths: programs are static."""
        lowered, setup, config = self.lowered, self.lowered.setup, self.lowered.config
        names = lowered.decodes[lowered.rows_for(rows)]
        timelines = [timeline for name in names for timeline in self.timelines(name)]
        blocks = num_blocks(length)
        moved = sum(len(lowered.programs[name].relocations) for name in names)
        cpu_us = rows * (self._row_us(setup.num_slots) + self.cpu.argmax(config.vocab_size))
        if setup.prunes and blocks > setup.num_slots:
            choose = self.cpu.choose_pages(config.num_kv_heads, config.group_size, blocks, setup.num_slots)
            cpu_us += rows * config.num_layers * choose
        if setup.gather is Gather.COPY:
            page_bytes = 2 * config.num_layers * config.num_kv_heads * setup.num_slots * lowered.pages.page_stride
            cpu_us += self.cpu.copy(page_bytes) + config.num_layers * self.cpu.invalidate(
                page_bytes / config.num_layers
            )
        cpu_us += self.cpu.patches(moved)
        return StepTime(
            chip_ms=sum(t.ms for t in timelines),
            cpu_ms=cpu_us / 1000,
            submit_ms=len(timelines) * self.board.host.submit_us / 1000,
            tiu_ms=sum(t.busy_ps(TIU) for t in timelines) / 1e9,
            tdma_ms=sum(t.busy_ps(TDMA) for t in timelines) / 1e9,
            dram_bytes=sum(t.dram_read_bytes + t.dram_write_bytes for t in timelines),
            num_patched=moved,
            rows=rows,
        )

    def _row_us(self, num_slots: int) -> float:
        """What the CPU writes for a row before a step: its embedding, rotation and mask."""
        num_bytes = 2 * (self.lowered.config.hidden_size + num_slots * PAGE_SIZE) + self.lowered.addresses.rope_bytes
        return self.cpu.embed(num_bytes)

    def prefill_ms(self, num_tokens: int) -> float:
        """A prompt: all but its last token in chunks, as far as programs reach, the others in decode steps."""
        chunk, done, ms = self.lowered.setup.chunk, 0, 0.0
        while done < num_tokens - 1:
            count = min(chunk, num_tokens - 1 - done)
            if (program := self.lowered.prefill_for(done + count)) is None:
                break
            done += count
            moved = len(self.lowered.programs[program.name].relocations)
            cpu_us = chunk * self._row_us(program.num_slots) + self.cpu.patches(moved)
            cpu_us += len(self.timelines(program.name)) * self.board.host.submit_us
            ms += self.program_ms(program.name) + cpu_us / 1000
        return ms + sum(self.decode(length).ms for length in range(done + 1, num_tokens + 1))

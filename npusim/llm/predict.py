"""How long a token takes on the board, by share: the chip's programs, the CPU's work between them, and submitting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from npusim.board import Board, Host
from npusim.errors import UsageError
from npusim.llm.cpu_cost import CpuCosts
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.pages import num_blocks
from npusim.llm.setup import Gather
from npusim.timing import TDMA, TIU, Timeline, time_workload, workload_of_bytes


@dataclass(frozen=True)
class StepTime:
    """One decode step. Milliseconds, except where a name says otherwise.

    chip_ms     from the first to the last command of each program, added up
    submit_ms   starting programs and waiting for them
    cpu_ms      embedding, choice of pages, patching or copying, choice of the token
    tiu_ms, tdma_ms   of chip_ms, how long each engine works
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
        """Of the whole step: chip, CPU, submits and storage follow one another."""
        return self.chip_ms + self.cpu_ms + self.submit_ms + self.storage_ms

    @property
    def tokens_per_second(self) -> float:
        return 1000 / self.ms

    @property
    def binds(self) -> str:
        """What takes most of the time: DRAM, TIU, CPU, submit or storage."""
        chip = "DRAM" if self.tdma_ms >= self.tiu_ms else "TIU"
        return max(
            ((self.chip_ms, chip), (self.cpu_ms, "CPU"), (self.submit_ms, "submit"), (self.storage_ms, "storage"))
        )[1]


def streamed(step: StepTime, weight_bytes: int, host: Host) -> StepTime:
    """The step where all weights come from the board's storage for every token, one layer after the other, before the
    chip computes."""
    if not host.storage_bytes_per_s:
        raise UsageError("nobody has published how fast this board's storage is")
    return replace(step, storage_ms=weight_bytes / host.storage_bytes_per_s * 1000)


class Predictor:
    """Timelines of a lowered model's programs, each computed once."""

    def __init__(self, lowered: LoweredModel, board: Board | None = None) -> None:
        """On the board that the model was lowered for, or on another one with the same chip."""
        self.lowered = lowered
        self.board = board or lowered.setup.board
        self.cpu = CpuCosts(self.board.host)
        self._timelines: dict[str, tuple[Timeline, ...]] = {}

    def timelines(self, name: str) -> tuple[Timeline, ...]:
        """One a command buffer of the program called `name`."""
        if name not in self._timelines:
            program, board = self.lowered.programs[name], self.board
            self._timelines[name] = tuple(
                time_workload(workload_of_bytes(program.chip, c), board) for c in program.cmdbufs
            )
        return self._timelines[name]

    def program_ms(self, name: str) -> float:
        """The chip's time for the program called `name`, all its command buffers, without submitting them."""
        return sum(timeline.ms for timeline in self.timelines(name))

    def decode(self, length: int) -> StepTime:
        """A step that makes the sequence `length` tokens long. The chip's part does not depend on it: its programs are
        static."""
        lowered, setup, config = self.lowered, self.lowered.setup, self.lowered.config
        timelines = [timeline for name in lowered.decode for timeline in self.timelines(name)]
        blocks = num_blocks(length)
        moved = self._moved_labels
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
            submit_ms=len(timelines) * self.cpu.submit() / 1000,
            tiu_ms=sum(t.busy_ps(TIU) for t in timelines) / 1e9,
            tdma_ms=sum(t.busy_ps(TDMA) for t in timelines) / 1e9,
            dram_bytes=sum(t.dram_read_bytes + t.dram_write_bytes for t in timelines),
            num_patched=moved,
        )

    @cached_property
    def _moved_labels(self) -> int:
        """Descriptors that a step may have to patch."""
        return sum(len(self.lowered.programs[name].relocations) for name in self.lowered.decode)

    def prefill_ms(self, num_tokens: int) -> float:
        """A prompt, in chunks and, for what is left over, in decode steps."""
        chunk, done, ms = self.lowered.setup.chunk, 0, 0.0
        while num_tokens - done > chunk and (program := self.lowered.prefill_for(done + chunk)):
            done += chunk
            ms += self.program_ms(program.name) + len(self.timelines(program.name)) * self.cpu.submit() / 1000
        return ms + sum(self.decode(length).ms for length in range(done + 1, num_tokens + 1))

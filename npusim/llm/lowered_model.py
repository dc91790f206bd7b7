"""A lowered model: its programs, and where everything is in GMEM."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.kernels.cache import PAGE_SIZE
from npusim.kernels.program import Program
from npusim.llm.layout import Addresses, ModelLayout
from npusim.llm.memory_map import MemoryMap
from npusim.llm.pages import PageLayout
from npusim.llm.setup import Setup
from reference_model.config import ModelConfig


@dataclass(frozen=True)
class PrefillProgram:
    """The name of a program that computes a chunk of tokens at once and attends to at most `num_slots` pages, those of
    the chunk included."""

    name: str
    num_slots: int


@dataclass(frozen=True)
class LoweredModel:
    """`decodes` names, by the number of sequences, the programs of one step in order.

    Where pages are chosen a layer at a time, program i ends with layer i's scores."""

    layout: ModelLayout
    programs: dict[str, Program]
    decodes: dict[int, tuple[str, ...]]
    prefills: tuple[PrefillProgram, ...]

    @property
    def setup(self) -> Setup:
        return self.layout.setup

    @property
    def config(self) -> ModelConfig:
        return self.layout.config

    @property
    def memory(self) -> MemoryMap:
        return self.layout.memory

    @property
    def pages(self) -> PageLayout:
        return self.layout.pages

    @property
    def addresses(self) -> Addresses:
        return self.layout.addresses

    @property
    def decode(self) -> tuple[str, ...]:
        """The programs of a step of one sequence."""
        return self.decodes[1]

    def rows_for(self, count: int) -> int:
        """Of the decode programs that take `count` sequences, the one with the fewest rows."""
        return min(rows for rows in self.decodes if rows >= count)

    def prefill_for(self, length: int) -> PrefillProgram | None:
        """The smallest program that attends to `length` tokens; None if there is none."""
        return next((p for p in self.prefills if p.num_slots * PAGE_SIZE >= length), None)

    @property
    def command_bytes(self) -> int:
        """Bytes of all command buffers."""
        return sum(len(cmdbuf) for program in self.programs.values() for cmdbuf in program.cmdbufs)

"""A model as the board holds it: programs, what is in memory before the first token, and where things are."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.kernels.program import Program
from npusim.llm.memory_map import MemoryMap
from npusim.llm.pages import PageLayout
from npusim.llm.setup import Setup
from reference_model.config import ModelConfig


@dataclass(frozen=True)
class Prefill:
    """A program that takes `chunk` tokens at once and attends to at most `num_slots` pages, those of the chunk included."""

    name: str
    num_slots: int


@dataclass(frozen=True)
class Places:
    """GMEM addresses that the driver itself needs.

    x          residual stream of the new tokens, bf16 [chunk, hidden]: the embedding goes in here
    queries    bf16 [q_heads * head_dim], between two programs of a step
    logits     bf16 [vocab]
    scores     of each layer, score_bytes apart: [kv_heads][2][group][num_pages], the upper and lower halves of float32 numbers
    rope       rows of (cos, sin), rope_bytes a position
    mask       as placement.masks lays them out
    boxes      Quest's metadata: [layer][kv_head][2 * head_dim][num_pages]
    staging    where the CPU copies pages, or 0
    """

    x: int
    queries: int
    logits: int
    scores: int
    score_bytes: int
    rope: int
    rope_bytes: int
    mask: int
    boxes: int
    staging: int


@dataclass(frozen=True)
class Lowered:
    """`decode` names the programs of one step in order; where pages are chosen a layer at a time, program i ends with layer i's scores."""

    setup: Setup
    config: ModelConfig
    memory: MemoryMap
    pages: PageLayout
    places: Places
    programs: dict[str, Program]
    decode: tuple[str, ...]
    prefills: tuple[Prefill, ...]
    constants: tuple[tuple[int, bytes], ...]
    """(address, bytes) to write before the first run."""

    @property
    def command_bytes(self) -> int:
        """Of all command buffers."""
        return sum(len(cmdbuf) for program in self.programs.values() for cmdbuf in program.cmdbufs)

    def staged(self, which: int, layer: int, head: int, slot: int) -> int:
        """Where the CPU copies the page in a slot to, `which` being 0 for keys and 1 for values."""
        return self.places.staging + self.pages.staged_offset(which, layer, head, slot, self.setup.num_slots)

"""What a driver needs of a chip: memory to write and read, programs to load once, move labels in and run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from npusim.chip import Chip
from npusim.kernels.program import Program
from npusim.llm.movable_program import MovableProgram
from npusim.state import State


class Device(Protocol):
    """A chip with its memory; addresses are offsets from the start of its DRAM."""

    def load(self, name: str, program: Program) -> None:
        """Keeps a program under a name."""

    def write(self, addr: int, data: bytes) -> None: ...

    def read(self, addr: int, num_bytes: int) -> bytes: ...

    def run(self, name: str, addrs: Mapping[str, int]) -> int:
        """Moves labels (those not named stay), runs the program to its end and returns how many descriptors changed."""


class SimulatedDevice:
    """npusim's own chip."""

    def __init__(self, chip: Chip, gmem_bytes: int | None = None) -> None:
        self.state = State(chip, gmem_bytes)
        self.programs: dict[str, MovableProgram] = {}

    def load(self, name: str, program: Program) -> None:
        self.programs[name] = MovableProgram(self.state, program)

    def write(self, addr: int, data: bytes) -> None:
        self.state.gmem.write(addr, data)

    def read(self, addr: int, num_bytes: int) -> bytes:
        return self.state.gmem.read(addr, num_bytes)

    def run(self, name: str, addrs: Mapping[str, int]) -> int:
        program = self.programs[name]
        count = program.move(addrs)
        program.run()
        return count

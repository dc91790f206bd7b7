"""The interface between a driver and a chip: memory, and programs that are loaded once, edited and run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from npusim.chip import Chip
from npusim.kernels.program import Program
from npusim.llm.movable_program import MovableProgram
from npusim.state import State


class Device(Protocol):
    """A chip with its memory. Addresses are offsets from the start of its DRAM."""

    def load(self, name: str, program: Program) -> None:
        """Keeps `program` under the name `name`."""

    def write(self, addr: int, data: bytes) -> None: ...

    def read(self, addr: int, num_bytes: int) -> bytes: ...

    def run(self, name: str, addrs: Mapping[str, int]) -> int:
        """Sets labels of the program to the addresses in `addrs`; other labels keep theirs. Then runs it to its end.
        -> how many descriptors changed."""


class SimulatedDevice:
    """A chip that npusim simulates."""

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

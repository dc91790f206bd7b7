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
        self._programs: dict[str, Program] = {}
        self._bound: dict[str, MovableProgram] = {}

    def load(self, name: str, program: Program) -> None:
        """Keeps a program; its commands are bound when it is first run."""
        self._programs[name] = program
        self._bound.pop(name, None)

    def write(self, addr: int, data: bytes) -> None:
        self.state.gmem.write(addr, data)

    def read(self, addr: int, num_bytes: int) -> bytes:
        return self.state.gmem.read(addr, num_bytes)

    def run(self, name: str, addrs: Mapping[str, int]) -> int:
        if name not in self._bound:
            self._bound[name] = MovableProgram(self.state, self._programs[name])
        program = self._bound[name]
        count = program.move(addrs)
        program.run()
        return count

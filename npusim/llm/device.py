"""What a driver needs of a chip: memory to write and read, command buffers to load once, patch and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from npusim.chip import Chip
from npusim.llm.patch import Patch
from npusim.llm.program import Program
from npusim.state import State


class Device(Protocol):
    """A chip with its memory; addresses are offsets from the start of its DRAM."""

    def load(self, name: str, cmdbuf: bytes, patches: Sequence[Patch]) -> None:
        """Keeps a command buffer under a name."""

    def write(self, addr: int, data: bytes) -> None: ...

    def read(self, addr: int, num_bytes: int) -> bytes: ...

    def run(self, name: str, addresses: Mapping[str, int]) -> None:
        """Sets patched addresses (those not named keep theirs), then runs the command buffer to its end."""


class SimulatedDevice:
    """npusim's own chip: programs are bound when loaded, only what is patched is bound again."""

    def __init__(self, chip: Chip, gmem_bytes: int | None = None) -> None:
        self.state = State(chip, gmem_bytes)
        self.programs: dict[str, Program] = {}
        self.num_patched = 0
        """Commands whose address changed, so far."""

    def load(self, name: str, cmdbuf: bytes, patches: Sequence[Patch]) -> None:
        self.programs[name] = Program(name, self.state, cmdbuf, patches)

    def write(self, addr: int, data: bytes) -> None:
        self.state.gmem.write(addr, data)

    def read(self, addr: int, num_bytes: int) -> bytes:
        return self.state.gmem.read(addr, num_bytes)

    def run(self, name: str, addresses: Mapping[str, int]) -> None:
        program = self.programs[name]
        self.num_patched += program.patch(addresses)
        program.run()

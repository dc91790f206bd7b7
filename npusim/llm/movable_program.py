"""A program bound to a machine once; when labels move, only the commands that they name are bound again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from npusim.errors import UsageError
from npusim.insn import Instruction
from npusim.insn.base import Bound
from npusim.kernels.program import Program, Relocation, write_addr
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.decode import decode_cmdbuf, decode_tdma
from npusim.state import State


class MovableProgram:
    """`move` labels, then `run`: as a driver on the board edits addresses in a command buffer and submits it again."""

    def __init__(self, state: State, program: Program) -> None:
        self.program = program
        self._state = state
        self._buffers = [_BoundBuffer(state, cmdbuf) for cmdbuf in program.cmdbufs]
        self._points: dict[str, list[Relocation]] = {}
        for point in program.relocations:
            self._points.setdefault(point.label, []).append(point)
        self._now: dict[str, int] = {}

    @property
    def cmdbufs(self) -> tuple[bytes, ...]:
        """As they would be submitted now."""
        return tuple(buffer.cmdbuf.tobytes() for buffer in self._buffers)

    def move(self, addrs: Mapping[str, int]) -> int:
        """Sets the GMEM addresses of labels and returns how many descriptors changed."""
        count = 0
        for label, addr in addrs.items():
            if self._now.get(label) == addr:
                continue
            if label not in self._points:
                known = ", ".join(list(self._points)[:8]) or "none"
                raise UsageError(f"the program has no label {label!r}; it has {known}")
            for point in self._points[label]:
                self._buffers[point.buffer].move(self._state, point, addr)
                count += 1
            self._now[label] = addr
        return count

    def run(self) -> None:
        """Executes every command in order."""
        for buffer in self._buffers:
            for call in buffer.calls:
                call()


class _BoundBuffer:
    def __init__(self, state: State, cmdbuf: bytes) -> None:
        self.cmdbuf: NDArray[np.uint8] = np.frombuffer(cmdbuf, np.uint8).copy()
        self.instructions: list[Instruction] = decode_cmdbuf(parse_cmdbuf(state.chip, cmdbuf))
        self.calls: list[Bound] = [instruction.bind(state) for instruction in self.instructions]
        self._place = {instruction.index: place for place, instruction in enumerate(self.instructions)}

    def move(self, state: State, point: Relocation, addr: int) -> None:
        write_addr(state.chip, self.cmdbuf, point, addr)
        place = self._place[point.command]
        old = self.instructions[place]
        value = addr + point.addend + state.chip.gmem_base
        fields = {f"{point.side}_base_addr_low": value & 0xFFFFFFFF, f"{point.side}_base_addr_high": value >> 32}
        instruction = decode_tdma(state.chip, old.regs._replace(**fields), old.index)
        self.calls[place] = instruction.bind(state)
        self.instructions[place] = instruction

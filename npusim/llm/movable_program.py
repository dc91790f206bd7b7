"""A program that is bound to a machine once. When labels move, only the commands that use them are bound again."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from npusim.execute import execute
from npusim.insn.base import Bound
from npusim.kernels.program import Program, Relocation
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.decode import decode_cmdbuf, decode_tdma
from npusim.state import State


class MovableProgram:
    """A program whose labels can be moved: as a driver on a board edits addresses in a command buffer and submits it
    again, `move` sets labels and `run` runs the program."""

    def __init__(self, state: State, program: Program) -> None:
        self.program = program
        self._buffers = [_BoundBuffer(state, cmdbuf) for cmdbuf in program.cmdbufs]
        self._now: dict[str, int] = {}

    def move(self, addrs: Mapping[str, int]) -> int:
        """Sets the GMEM addresses of labels. -> how many descriptors changed."""
        count = 0
        for label, addr in addrs.items():
            if self._now.get(label) == addr:
                continue
            for point in self.program.relocations_of(label):
                self._buffers[point.buffer].move(point, addr)
                count += 1
            self._now[label] = addr
        return count

    def run(self) -> None:
        """Executes every command in order."""
        execute(chain.from_iterable(buffer.calls for buffer in self._buffers))


class _BoundBuffer:
    def __init__(self, state: State, cmdbuf: bytes) -> None:
        self._state = state
        self._instructions = decode_cmdbuf(parse_cmdbuf(state.chip, cmdbuf))
        self._place = {instruction.index: place for place, instruction in enumerate(self._instructions)}
        self.calls: list[Bound] = [instruction.bind(state) for instruction in self._instructions]

    def move(self, point: Relocation, addr: int) -> None:
        place, chip = self._place[point.command], self._state.chip
        old = self._instructions[place]
        moved = decode_tdma(chip, old.regs._replace(**point.base_fields(chip, addr)), old.index)
        self._instructions[place], self.calls[place] = moved, moved.bind(self._state)

"""A program that is bound to a machine once. When labels move, only the commands that use them are bound again."""

from __future__ import annotations

from collections.abc import Mapping

from npusim.execute import execute
from npusim.execute.fuse import fused
from npusim.insn import Instruction
from npusim.insn.base import Bound
from npusim.kernels.program import Program, Relocation
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.decode import decode_cmdbuf, decode_tdma
from npusim.state import State


class MovableProgram:
    """A program whose labels can be moved: as a driver on a board edits addresses in a command buffer and submits it
    again, `move` sets labels and `run` runs the program.

    It is fused when it is run for the second time."""

    def __init__(self, state: State, program: Program) -> None:
        self.program = program
        self._state = state
        self._instructions: list[Instruction] = []
        self._place: dict[tuple[int, int], int] = {}
        """Of each command of each buffer among all."""
        for buffer, cmdbuf in enumerate(program.cmdbufs):
            for instruction in decode_cmdbuf(parse_cmdbuf(state.chip, cmdbuf)):
                self._place[buffer, instruction.index] = len(self._instructions)
                self._instructions.append(instruction)
        self._bound = [instruction.bind(state) for instruction in self._instructions]
        self._calls: list[Bound] = self._bound
        """What a run calls: every command, or once it is fused, chains in the place of some."""
        self._called_at: dict[int, int] = {}
        """Where `_calls` has the commands that can be moved."""
        self._runs = 0
        self._now: dict[str, int] = {}

    def move(self, addrs: Mapping[str, int]) -> int:
        """Sets the GMEM addresses of labels. -> how many descriptors changed."""
        count = 0
        for label, addr in addrs.items():
            if self._now.get(label) == addr:
                continue
            for point in self.program.relocations_of(label):
                self._move(point, addr)
                count += 1
            self._now[label] = addr
        return count

    def run(self) -> None:
        """Executes every command in order, or what comes to the same."""
        self._runs += 1
        if self._runs == 2:
            self._fuse()
        execute(self._calls)

    def _move(self, point: Relocation, addr: int) -> None:
        place, chip = self._place[point.buffer, point.command], self._state.chip
        old = self._instructions[place]
        moved = decode_tdma(chip, old.regs._replace(**point.base_fields(chip, addr)), old.index)
        self._instructions[place], self._bound[place] = moved, moved.bind(self._state)
        if place in self._called_at:
            self._calls[self._called_at[place]] = self._bound[place]

    def _fuse(self) -> None:
        movable = {self._place[point.buffer, point.command] for point in self.program.relocations}
        items = fused(self._state, self._instructions, self._bound, movable)
        self._calls = [self._bound[item] if isinstance(item, int) else item for item in items]
        self._called_at = {item: at for at, item in enumerate(items) if isinstance(item, int) and item in movable}

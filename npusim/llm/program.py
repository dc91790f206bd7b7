"""A command buffer bound to a machine once, of which only patched commands are bound again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from npusim.decode import decode_cmdbuf
from npusim.insn import Instruction
from npusim.llm.patch import Patch, PatchTable, rebound
from npusim.loader.cmdbuf import parse_cmdbuf
from npusim.state import State


class Program:
    """Static operators with patched addresses: `patch` then `run`, as a driver on the board edits the command buffer and submits it."""

    def __init__(self, name: str, state: State, cmdbuf: bytes, patches: Sequence[Patch] = ()) -> None:
        self.name = name
        parsed = parse_cmdbuf(state.chip, cmdbuf)
        self.table = PatchTable(state.chip, parsed, patches)
        self.cmdbuf: NDArray[np.uint8] = np.frombuffer(cmdbuf, np.uint8).copy()
        """As it would be submitted now, patches applied."""
        self.instructions: list[Instruction] = decode_cmdbuf(parsed)
        self._state = state
        self._calls = [instruction.bind(state) for instruction in self.instructions]
        self._place = {instruction.index: place for place, instruction in enumerate(self.instructions)}
        self._now: dict[str, int] = {}

    def patch(self, addresses: Mapping[str, int]) -> int:
        """Sets GMEM addresses by name and returns how many commands changed."""
        changed = {name: addr for name, addr in addresses.items() if self._now.get(name) != addr}
        count = 0
        for name, addr in changed.items():
            for patch in self.table.commands(name):
                place = self._place[patch.command]
                instruction = rebound(self._state, self.instructions[place], patch.side, addr)
                self.instructions[place], self._calls[place] = instruction, instruction.bind(self._state)
                count += 1
        self.table.write(self.cmdbuf, changed)
        self._now |= changed
        return count

    def run(self) -> None:
        """Executes every command in order."""
        for call in self._calls:
            call()

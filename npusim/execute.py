"""Values: binds a program to a machine's memory once, then runs it as often as wanted."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.errors import IllegalInstruction, NpusimError
from npusim.insn import Instruction
from npusim.insn.base import Bound
from npusim.numerics.blas import one_blas_thread
from npusim.state import State


class BoundProgram:
    """Instructions tied to one State under the base registers of the moment; `run` executes them all in order.

    Binding validates every instruction first, so a program with an illegal one is refused before any byte is written.
    Commands that do the same share one call: tiled networks repeat themselves, and binding is what loading them takes.
    """

    def __init__(self, state: State, instructions: Sequence[Instruction]) -> None:
        known: dict[tuple, Bound] = {}
        self._calls: list[Bound] = []
        for instruction in instructions:
            key = instruction.key()
            call = known.get(key)
            if call is None:
                call = known[key] = _bind(state, instruction)
            self._calls.append(call)

    @one_blas_thread
    def run(self) -> None:
        for call in self._calls:
            call()


def _bind(state: State, instruction: Instruction) -> Bound:
    try:
        return instruction.bind(state)
    except IllegalInstruction:
        raise
    except NpusimError as error:
        raise type(error)(f"command {instruction.index} ({instruction.mnemonic}): {error}") from None

"""Values: binds a program to a machine's memory once, then runs it as often as wanted."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b

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

    def __init__(self, state: State, instructions: Iterable[Instruction]) -> None:
        known: dict[bytes, Bound] = {}
        self._calls: list[Bound] = []
        for instruction in instructions:
            key = blake2b(
                array("q", instruction.key()), digest_size=16
            ).digest()  # a tuple of so many fields takes 1 kB
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

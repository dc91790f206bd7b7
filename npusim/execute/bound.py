"""Binds a program to a machine's memory once, and runs it as often as wanted."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b

from npusim.errors import IllegalInstruction, NpusimError, UsageError
from npusim.insn import Instruction
from npusim.insn.base import Bound
from npusim.numerics.backend import chooser
from npusim.numerics.blas import one_blas_thread
from npusim.state import State


class BoundProgram:
    """Instructions that are bound to one State with the base registers that it has now. `run` executes all in order.

    Every instruction is validated first, so a program with an illegal one is refused before any byte is written.
    Commands that do the same share one call, since tiled networks repeat themselves and binding takes most of the time
    of loading them.
    """

    def __init__(self, state: State, instructions: Iterable[Instruction]) -> None:
        known: dict[bytes, Bound] = {}
        self._calls: list[Bound] = []
        for instruction in instructions:
            # a digest, because a tuple of so many fields takes 1 kB
            key = blake2b(array("q", instruction.key()), digest_size=16).digest()
            call = known.get(key)
            if call is None:
                call = known[key] = _bind(state, instruction)
            self._calls.append(call)

    def run(self) -> None:
        execute(self._calls)


@one_blas_thread
def execute(calls: Iterable[Bound]) -> None:
    """Runs bound commands one after another, with one BLAS thread, and counts the time, which decides on the backend.

    Raises UsageError for a NPUSIM_BACKEND that cannot be used."""
    try:
        start = chooser.before_run()
    except ValueError as error:
        raise UsageError(str(error)) from None
    for call in calls:
        call()
    chooser.after_run(start)


def _bind(state: State, instruction: Instruction) -> Bound:
    try:
        return instruction.bind(state)
    except IllegalInstruction:
        raise
    except NpusimError as error:
        raise type(error)(f"command {instruction.index} ({instruction.mnemonic}): {error}") from None

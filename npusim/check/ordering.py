"""Which commands happen before which, from the ids alone.

Each engine runs its own commands in order. So two numbers say what has happened before a command: its position in its
own stream, and how many commands of the other engine have certainly ended when it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npusim.chip import Chip
from npusim.errors import IllegalInstruction
from npusim.insn import Instruction
from npusim.insn.operand import Footprint
from npusim.isa.opcodes import ENGINES, TDMA, TIU, PerEngine
from npusim.isa.regs import tdma_rows, tiu_rows
from npusim.program.cmdbuf import Cmdbuf
from npusim.program.decode import decode_tdma, decode_tiu
from npusim.program.waits import Waits, waits_of

NOTHING = Footprint((), ())


@dataclass(frozen=True)
class Step:
    """One command, and how much has certainly happened before it."""

    engine: int
    position: int
    """Its place in its engine's stream, from 1."""
    known: int
    """How many commands of the other engine have certainly ended when this one starts, because of its wait or an
    earlier one of its stream."""
    index: int
    """Its place in the command buffer."""
    id: int
    wait: int
    """The other engine's id that it waits for; 0 for none."""
    instruction: Instruction | None
    """None if the descriptor is not a valid instruction."""
    footprint: Footprint
    refusal: str
    """Why the chip refuses the command, or ""."""
    section: str
    """Name of the command buffer's section."""

    @property
    def mnemonic(self) -> str:
        return self.instruction.mnemonic if self.instruction else ENGINES[self.engine].name

    @property
    def name(self) -> str:
        return f"command {self.index} ({self.mnemonic})"


@dataclass(frozen=True)
class Ordering:
    """Both engines' streams, and an order of all commands that can run which the ids allow: that of the buffer if the
    ids allow it, else that of `Waits.turns`."""

    waits: Waits
    streams: PerEngine[list[Step]]
    order: list[Step]


def ordering_of(cmdbuf: Cmdbuf, refuse: Callable[[Instruction], str], section: str = "") -> Ordering:
    """The ordering of `cmdbuf`, whose section is called `section`. `refuse` says why the chip refuses an instruction,
    or ""."""
    chip, waits = cmdbuf.chip, waits_of(cmdbuf)
    rows = PerEngine[list[Any]](tiu_rows(chip, cmdbuf.tiu), tdma_rows(chip, cmdbuf.tdma))
    decoder = _Decoder(chip, refuse)
    streams = PerEngine[list[Step]]([], [])
    for engine in (TIU, TDMA):
        numbers = (waits.known, waits.ids, waits.wanted, cmdbuf.index)
        columns = zip(rows[engine], *(column[engine].tolist() for column in numbers), strict=True)
        for position, (row, known, id_, wait, index) in enumerate(columns, 1):
            instruction, footprint, refusal = decoder.decode(engine, row, index)
            step = Step(
                engine=engine,
                position=position,
                known=known,
                index=index,
                id=id_,
                wait=wait,
                instruction=instruction,
                footprint=footprint,
                refusal=refusal,
                section=section,
            )
            streams[engine].append(step)
    return Ordering(waits, streams, _order(cmdbuf, waits, streams))


def _order(cmdbuf: Cmdbuf, waits: Waits, streams: PerEngine[list[Step]]) -> list[Step]:
    """Ordering.order: that of the buffer if everything that a command waits for comes before it there."""
    in_front = PerEngine(*(np.searchsorted(cmdbuf.index.other(e), cmdbuf.index[e]) for e in (TIU, TDMA)))
    if all((in_front[e] >= waits.known[e]).all() for e in (TIU, TDMA)):
        return sorted(streams.tiu + streams.tdma, key=lambda step: step.index)
    next_step = PerEngine(*(iter(stream) for stream in streams))
    return [next(next_step[engine]) for engine in waits.turns]


class _Decoder:
    """Decodes commands. Commands that do the same share one footprint."""

    def __init__(self, chip: Chip, refuse: Callable[[Instruction], str]) -> None:
        self._chip, self._refuse = chip, refuse
        self._known: dict[tuple, Footprint] = {}

    def decode(self, engine: int, row: Any, place: int) -> tuple[Instruction | None, Footprint, str]:
        try:
            instruction = (decode_tiu, decode_tdma)[engine](self._chip, row, place)
        except IllegalInstruction as error:
            return None, NOTHING, str(error)
        key = (engine, instruction.work())
        footprint = self._known.get(key)
        if footprint is None:
            refusal = self._refuse(instruction)
            if refusal:
                return instruction, NOTHING, refusal
            footprint = self._known[key] = instruction.footprint()
        return instruction, footprint, ""

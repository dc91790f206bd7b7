"""Which commands happen before which, from the ids alone.

Each engine runs its own commands in order, so a clock of two numbers says all: how far a command is in its own stream,
and how many of the other engine's commands have surely ended when it starts."""

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
    """One command on the timeline."""

    engine: int
    position: int
    """Its place in its engine's stream, from 1 on."""
    known: int
    """Commands of the other engine that have ended when this one starts, by this wait or an earlier one of its
    stream."""
    index: int
    """Its place in the command buffer."""
    id: int
    wait: int
    """The other engine's id that it waits for; 0 for none."""
    instruction: Instruction | None
    """None where no instruction has these fields."""
    footprint: Footprint
    refusal: str
    """Why the chip refuses the command, or ""."""
    section: str
    """Where the command buffer comes from."""

    @property
    def mnemonic(self) -> str:
        return self.instruction.mnemonic if self.instruction else ENGINES[self.engine].name

    @property
    def name(self) -> str:
        return f"command {self.index} ({self.mnemonic})"


@dataclass(frozen=True)
class Timeline:
    """Both streams, and all commands that can run in an order that the ids allow: that of the buffer, where it is
    one, else that of `Waits.turns`."""

    waits: Waits
    streams: PerEngine[list[Step]]
    order: list[Step]


def timeline_of(cmdbuf: Cmdbuf, refuse: Callable[[Instruction], str], section: str = "") -> Timeline:
    """Decodes `cmdbuf`. `refuse` says why the chip does not run an instruction, or ""."""
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
    return Timeline(waits, streams, _order(cmdbuf, waits, streams))


def _order(cmdbuf: Cmdbuf, waits: Waits, streams: PerEngine[list[Step]]) -> list[Step]:
    """That of the buffer where all that a command waits for stands in front of it there."""
    in_front = PerEngine(*(np.searchsorted(cmdbuf.index.other(e), cmdbuf.index[e]) for e in (TIU, TDMA)))
    if all((in_front[e] >= waits.known[e]).all() for e in (TIU, TDMA)):
        return sorted(streams.tiu + streams.tdma, key=lambda step: step.index)
    next_step = PerEngine(*(iter(stream) for stream in streams))
    return [next(next_step[engine]) for engine in waits.turns]


class _Decoder:
    """From fields to instructions and what they touch, which is worked out once for commands that do the same."""

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

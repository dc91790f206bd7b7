"""Which commands happen before which, from the ids alone.

Each engine runs its own commands in order, so a clock of two numbers says all: how far a command is in its own stream,
and how many of the other engine's commands have surely ended when it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import IllegalInstruction
from npusim.insn import Instruction
from npusim.insn.operand import Footprint
from npusim.isa.regs import tdma_rows, tiu_rows
from npusim.program.cmdbuf import Cmdbuf
from npusim.program.decode import decode_tdma, decode_tiu

TIU, TDMA = 0, 1
"""Engines as indices."""
NAMES = ("TIU", "TDMA")
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
    def name(self) -> str:
        what = self.instruction.mnemonic if self.instruction else NAMES[self.engine]
        return f"command {self.index} ({what})"


@dataclass(frozen=True)
class Timeline:
    """Both streams, and all commands that can run in an order that the ids allow: that of the buffer, where it is
    one."""

    streams: tuple[list[Step], list[Step]]
    order: list[Step]

    @property
    def stuck(self) -> list[Step]:
        """The next command of each engine, where neither can go on."""
        done = [sum(step.engine == engine for step in self.order) for engine in (TIU, TDMA)]
        return [self.streams[e][done[e]] for e in (TIU, TDMA) if done[e] < len(self.streams[e])]


def timeline_of(cmdbuf: Cmdbuf, refuse: Callable[[Instruction], str], section: str = "") -> Timeline:
    """Decodes `cmdbuf`. `refuse` says why the chip does not run an instruction, or ""."""
    chip = cmdbuf.chip
    tiu, tdma = tiu_rows(chip, cmdbuf.tiu), tdma_rows(chip, cmdbuf.tdma)
    ids = ([r.cmd_id_tpu for r in tiu], [r.cmd_id for r in tdma])
    waits = ([r.cmd_id_gdma if r.cmd_id_en else 0 for r in tiu], [r.wait_id_tpu for r in tdma])
    places = (cmdbuf.tiu_index.tolist(), cmdbuf.tdma_index.tolist())
    streams = []
    for engine, rows, decode in ((TIU, tiu, decode_tiu), (TDMA, tdma, decode_tdma)):
        known = _known(ids[1 - engine], waits[engine]).tolist()
        stream = []
        for i, row in enumerate(rows):
            place = places[engine][i]
            what = _decoded(decode, chip, row, place, refuse)
            stream.append(Step(engine, i + 1, known[i], place, ids[engine][i], waits[engine][i], *what, section))
        streams.append(stream)
    pair = (streams[TIU], streams[TDMA])
    in_buffer = sorted(pair[TIU] + pair[TDMA], key=lambda step: step.index)
    return Timeline(pair, in_buffer if _is_possible(in_buffer) else _taking_turns(pair))


def _known(ids: list[int], waits: list[int]) -> NDArray[np.int64]:
    """How many of the other engine's commands have ended: those up to the first whose id meets the wait, and all known
    before."""
    wanted = np.array(waits, np.int64)
    reached = np.maximum.accumulate(np.array(ids, np.int64)) if ids else np.zeros(0, np.int64)
    first = np.searchsorted(reached, wanted, "left") + 1
    return np.maximum.accumulate(np.where(wanted > 0, first, 0)) if waits else wanted


def _decoded(
    decode: Callable[..., Instruction], chip: Chip, row: Any, place: int, refuse: Callable[[Instruction], str]
) -> tuple[Instruction | None, Footprint, str]:
    try:
        instruction = decode(chip, row, place)
    except IllegalInstruction as error:
        return None, NOTHING, str(error)
    refusal = refuse(instruction)
    return instruction, NOTHING if refusal else instruction.footprint(), refusal


def _is_possible(order: list[Step]) -> bool:
    done = [0, 0]
    for step in order:
        if step.known > done[1 - step.engine]:
            return False
        done[step.engine] = step.position
    return True


def _taking_turns(streams: tuple[list[Step], list[Step]]) -> list[Step]:
    """TIU and TDMA in turns as far as their waits let them, as the vendor's model does."""
    order: list[Step] = []
    done = [0, 0]
    while True:
        before = len(order)
        for engine in (TIU, TDMA):
            stream = streams[engine]
            if done[engine] < len(stream) and stream[done[engine]].known <= done[1 - engine]:
                order.append(stream[done[engine]])
                done[engine] += 1
        if len(order) == before:
            return order

"""When each command starts. Each engine runs its commands in program order; ids make one engine wait for the other.

An engine's commands form blocks: only the first command of a block has to wait for more than the block before did.
Within a block the commands run without a pause, so their starts are a running sum of durations plus one shift.
`find_blocks` finds the blocks, and an order in which their shifts can be computed, once for a program. `run` computes
the shifts for one set of durations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.arrays import Ints
from npusim.errors import Deadlock
from npusim.isa.opcodes import ENGINES, TDMA, TIU, PerEngine

_BOTH = (TIU, TDMA)
_NEVER = -(1 << 62)


@dataclass(frozen=True)
class Blocks:
    """Blocks of both engines. They are numbered from 1 in an order in which each can be placed: what a block waits for
    has a smaller number. Number 0 is the program's start."""

    first: PerEngine[Ints]
    """For each block of each engine, the place of its first command in the engine's order."""
    needs: PerEngine[Ints]
    """For each block, how many commands of the other engine must have ended before it starts."""
    number: PerEngine[Ints]
    """For each block, its number."""
    before: list[int]
    """For each number, the number of the block before it in the same engine."""
    awaited: list[int]
    """For each number, the number of the other engine's block that holds the last command waited for."""


def find_blocks(needs: PerEngine[Ints]) -> Blocks:
    """The blocks of a program. Its i-th TIU command waits for the first `needs.tiu[i]` TDMA commands, its i-th TDMA
    command for the first `needs.tdma[i]` TIU commands.

    Raises Deadlock if neither engine can go on.
    """
    known = PerEngine(*(np.maximum.accumulate(n) for n in needs))
    for e in _BOTH:
        if len(known[e]) and int(known[e][-1]) > len(known.other(e)):
            raise Deadlock(_never(e, int(np.argmax(known[e] > len(known.other(e))))))
    first = PerEngine(*(np.flatnonzero(np.diff(n, prepend=-1)) for n in known))
    wanted = PerEngine(*(n[f] for n, f in zip(known, first, strict=True)))
    # Block i of engine e waits for block holders[e][i] - 1 of the other engine; 0: for none.
    holders = [
        np.where(wanted[e] > 0, np.searchsorted(first.other(e), wanted[e] - 1, side="right"), 0).tolist() for e in _BOTH
    ]
    # numbers[e][i + 1] is the number of block i of engine e; numbers[e][0] is the program's start.
    numbers: list[list[int]] = [[0], [0]]
    before, awaited = [0], [0]
    while any(len(numbers[e]) <= len(holders[e]) for e in _BOTH):
        placed = len(before)
        for e in _BOTH:
            mine, other = numbers[e], numbers[1 - e]
            while len(mine) <= len(holders[e]) and holders[e][len(mine) - 1] < len(other):
                before.append(mine[-1])
                awaited.append(other[holders[e][len(mine) - 1]])
                mine.append(len(before) - 1)
        if len(before) == placed:
            e = TIU if len(numbers[TIU]) <= len(holders[TIU]) else TDMA
            raise Deadlock(_never(e, int(first[e][len(numbers[e]) - 1])))
    number = PerEngine(*(np.array(n[1:], np.int64) for n in numbers))
    return Blocks(first, wanted, number, before[1:], awaited[1:])


def _never(engine: int, place: int) -> str:
    mine, other = ENGINES[engine].name, ENGINES[1 - engine].name
    return f"deadlock: {mine} command {place} waits for a {other} command that cannot run before it"


def run(
    blocks: Blocks, durations: PerEngine[Ints], sync: PerEngine[int], gap: int, early: Ints | None = None
) -> PerEngine[Ints]:
    """When every command starts, in the unit of `durations`.

    `sync[e]` is the time from the end of the other engine's command to the start of a command of engine e that waits
    for it, `gap` the time between two commands of one engine. TIU command i may start `early[i]` before the end of
    the command that it waits for."""
    totals = PerEngine(*(np.concatenate(([0], np.cumsum(d + gap))) for d in durations))
    ready = np.empty(len(blocks.before) + 1, np.int64)
    for e in _BOTH:
        needs, first = blocks.needs[e], blocks.first[e]
        shift = totals.other(e)[needs] - gap + sync[e] - totals[e][first]
        if early is not None and e == TIU:
            shift = shift - early[first]
        ready[blocks.number[e]] = np.where(needs > 0, shift, _NEVER)
    shifts = [0]
    place = shifts.append
    for before, awaited, shift in zip(blocks.before, blocks.awaited, ready[1:].tolist(), strict=True):
        own, other = shifts[before], shifts[awaited] + shift
        place(own if own > other else other)
    found = np.array(shifts, np.int64)
    starts = []
    for e in _BOTH:
        sizes = np.diff(np.append(blocks.first[e], len(durations[e])))
        starts.append(totals[e][:-1] + np.repeat(found[blocks.number[e]], sizes))
    return PerEngine(*starts)

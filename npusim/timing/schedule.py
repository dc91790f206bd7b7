"""When each command starts: two engines in program order, tied by ids.

Between two waits that matter an engine runs without a gap, so all its times are one running sum plus a shift. `Plan` finds those blocks
and the order in which their shifts are known, once for a program; `run` walks the blocks for one set of durations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.errors import Deadlock

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Blocks of both engines in the order in which they can be placed."""

    first: tuple[Ints, Ints]
    """For each engine the place where each block starts; the first block starts at 0."""
    needs: tuple[Ints, Ints]
    """For each block, how many commands of the other engine must have ended before it starts."""
    order: tuple[tuple[int, int, int], ...]
    """(engine, block, block of the other engine that holds the last command waited for or -1), in an order without forward references."""


def make_plan(tiu_needs: Ints, tdma_needs: Ints) -> Plan:
    """The plan of a program whose i-th TIU command waits for the first `tiu_needs[i]` TDMA commands, and the other way round.

    Raises Deadlock where neither engine can go on.
    """
    needs = [np.maximum.accumulate(n) if len(n) else n for n in (tiu_needs, tdma_needs)]
    first = [np.flatnonzero(np.diff(n, prepend=-1)) for n in needs]
    wanted = [n[f] for n, f in zip(needs, first, strict=True)]
    blocks = [np.where(wanted[e] > 0, np.searchsorted(first[1 - e], wanted[e] - 1, side="right") - 1, -1).tolist() for e in (0, 1)]
    for e in (0, 1):
        if len(needs[e]) and int(needs[e][-1]) > len(needs[1 - e]):
            raise Deadlock(_never(e, int(np.argmax(needs[e] > len(needs[1 - e])))))
    order: list[tuple[int, int, int]] = []
    placed = [0, 0]
    while placed[0] < len(blocks[0]) or placed[1] < len(blocks[1]):
        before = len(order)
        for e in (0, 1):
            mine, other = blocks[e], placed[1 - e]
            at = placed[e]
            while at < len(mine) and mine[at] < other:
                order.append((e, at, mine[at]))
                at += 1
            placed[e] = at
        if len(order) == before:
            at = placed[0]
            raise Deadlock(_never(0, int(first[0][at])) if at < len(blocks[0]) else _never(1, int(first[1][placed[1]])))
    return Plan((first[0], first[1]), (wanted[0], wanted[1]), tuple(order))


def _never(engine: int, place: int) -> str:
    mine, other = ("TIU", "TDMA") if engine == 0 else ("TDMA", "TIU")
    return f"deadlock: {mine} command {place} of its engine waits for a {other} command that cannot run before it"


def run(plan: Plan, durations: tuple[Ints, Ints], sync: tuple[int, int], gap: int, early: Ints | None = None) -> tuple[Ints, Ints]:
    """Start of every TIU and of every TDMA command, in the unit of `durations`.

    `sync[e]` is what passes between the end of the other engine's command and the start of the one that waits for it, `gap` what passes
    between two commands of one engine. `early[i]` is by how much TIU command i may start before what it waits for has ended.
    """
    totals = [np.concatenate(([0], np.cumsum(d + gap))) for d in durations]
    ends = []
    for e in (0, 1):
        needs, first = plan.needs[e], plan.first[e]
        other = totals[1 - e][needs] - gap
        ready = other + sync[e] - totals[e][first]
        ends.append((ready if early is None or e else ready - early[first]).tolist())
    shifts: list[list[int]] = [[0] * len(plan.first[0]), [0] * len(plan.first[1])]
    last = [0, 0]
    for engine, block, awaited in plan.order:
        shift = last[engine]
        if awaited >= 0:
            shift = max(shift, ends[engine][block] + shifts[1 - engine][awaited])
        shifts[engine][block] = shift
        last[engine] = shift
    starts = []
    for e in (0, 1):
        sizes = np.diff(np.append(plan.first[e], len(durations[e])))
        starts.append(totals[e][:-1] + np.repeat(np.array(shifts[e], np.int64), sizes))
    return starts[0], starts[1]

"""Faults of ids: waits that never end, and waits for an id that no command or more than one command has."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.check.finding import Kind
from npusim.check.ordering import Ordering, Step
from npusim.isa.opcodes import ENGINES, TDMA, TIU

Found = tuple[Kind, str, tuple[Step, ...]]


def check_ids(ordering: Ordering) -> Iterator[Found]:
    """Yields waits for ids that several commands have, waits for ids that no command has, and deadlocks."""
    for engine in (TIU, TDMA):
        yield from _unclear_waits(ordering, engine)
    stuck = ordering.waits.stuck
    if stuck:
        steps = tuple(ordering.streams[s.engine][s.position] for s in stuck)
        others = [ENGINES[1 - s.engine].name for s in stuck]
        parts = [
            f"{step.name} waits for {other} id {s.wait}, but {other} has done {s.done}"
            for s, step, other in zip(stuck, steps, others, strict=True)
        ]
        yield Kind.DEADLOCK, " and ".join(parts), steps


def _unclear_waits(ordering: Ordering, engine: int) -> Iterator[Found]:
    """Waits of `engine` that another command may have ended than the one that was meant."""
    others, name = ordering.streams.other(engine), ENGINES[1 - engine].name
    segment_ends = set(ordering.waits.ends.other(engine).tolist())
    needs = ordering.waits.needs[engine].tolist()
    for step, need in zip(ordering.streams[engine], needs, strict=True):
        if not step.wait or need > len(others):
            continue
        first = others[need - 1]
        if first.id != step.wait:
            text = f"{step.name} waits for {name} id {step.wait}, which no command has; id {first.id} ends the wait"
            yield Kind.ID_GAP, text, (step, first)
        elif need not in segment_ends and others[need].id == first.id:
            again = others[need]
            text = (
                f"{step.name} waits for {name} id {step.wait}, which both {first.name} and {again.name} have; "
                "the first ends the wait"
            )
            yield Kind.ID_REPEATED, text, (step, first, again)

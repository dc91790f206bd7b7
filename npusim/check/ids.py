"""Faults of the ids themselves: commands that wait for ever, or for an id that does not say what it seems to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from npusim.check.finding import Kind
from npusim.check.timeline import NAMES, TDMA, TIU, Step, Timeline

Found = tuple[Kind, str, tuple[Step, ...]]


def check_ids(timeline: Timeline) -> Iterator[Found]:
    """Deadlocks, ids that do not grow, and waits for ids that no command has."""
    for stream in timeline.streams:
        for before, step in pairwise(stream):
            if step.id <= before.id:
                rule = (
                    f"{NAMES[step.engine]} ids must grow, but id {step.id} of {step.name} follows id {before.id} "
                    f"of {before.name}"
                )
                yield Kind.ID_ORDER, rule, (step, before)
    for engine in (TIU, TDMA):
        given = {step.id for step in timeline.streams[1 - engine]}
        for step in timeline.streams[engine]:
            if step.wait and step.wait not in given and step.known <= len(timeline.streams[1 - engine]):
                met_by = timeline.streams[1 - engine][step.known - 1]
                text = (
                    f"{step.name} waits for {NAMES[1 - engine]} id {step.wait}, which no command has; id "
                    f"{met_by.id} meets it"
                )
                yield Kind.ID_GAP, text, (step, met_by)
    stuck = timeline.stuck
    if stuck:
        done = {TIU: 0, TDMA: 0} | {step.engine: step.id for step in timeline.order}
        parts = [
            (
                f"{step.name} waits for {NAMES[1 - step.engine]} id {step.wait}, but {NAMES[1 - step.engine]} has "
                f"done {done[1 - step.engine]}"
            )
            for step in stuck
        ]
        yield Kind.DEADLOCK, " and ".join(parts), tuple(stuck)

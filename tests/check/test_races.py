"""Races against brute force: sets of bytes, and reachability in the graph of program order and waits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.check import Kind, check
from tests.check.program import Program

PLACES = 5
"""Tensors lie at multiples of half their size, so they meet in part, wholly or not at all."""


@dataclass(frozen=True)
class Act:
    """One command: what it reads and writes, in halves of a tensor."""

    is_tiu: bool
    wait: int
    reads: int | None
    writes: int | None


@st.composite
def programs(draw: st.DrawFn) -> list[Act]:
    """Loads, stores and copies whose waits are for earlier commands of the other engine."""
    acts: list[Act] = []
    counts = {False: 0, True: 0}
    for _ in range(draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(("load", "store", "copy")))
        is_tiu = kind == "copy"
        place, other = draw(st.integers(0, PLACES - 1)), draw(st.integers(0, PLACES - 1))
        if is_tiu and abs(place - other) == 1:
            other = place  # a copy askew over itself is a fault of another kind
        wait = draw(st.integers(0, counts[not is_tiu]))
        acts.append(
            Act(is_tiu, wait, None if kind == "load" else place, other if is_tiu else place if kind == "load" else None)
        )
        counts[is_tiu] += 1
    return acts


def build(acts: list[Act]) -> Program:
    program = Program()
    for i, act in enumerate(acts):
        if act.is_tiu:
            assert act.reads is not None and act.writes is not None
            program.copy(act.writes * 8, act.reads * 8, wait=act.wait)
        elif act.writes is not None:
            program.load(act.writes * 8, at=i * 0x100, wait=act.wait)
        else:
            assert act.reads is not None
            program.store(act.reads * 8, at=0x8000 + i * 0x100, wait=act.wait)
    return program


def ordered(acts: list[Act]) -> set[tuple[int, int]]:
    """Pairs (a, b) with a surely before b: the transitive closure of program order and waits."""
    before = set()
    for b, act in enumerate(acts):
        before |= {(a, b) for a in range(b) if acts[a].is_tiu == act.is_tiu}
        others = [a for a in range(len(acts)) if acts[a].is_tiu != act.is_tiu]
        before |= {(a, b) for a in others[: act.wait]}
    for middle, a, b in product(range(len(acts)), repeat=3):
        if (a, middle) in before and (middle, b) in before:
            before.add((a, b))
    return before


def halves(place: int | None) -> set[int]:
    return set() if place is None else {place, place + 1}


def races(acts: list[Act], reads_of: set[int]) -> set[tuple[int, int]]:
    """Pairs of commands of both engines in conflict without an order, reads counted for the commands `reads_of`
    alone."""
    before = ordered(acts)
    found = set()
    for b, a in product(range(len(acts)), repeat=2):
        if a < b and acts[a].is_tiu != acts[b].is_tiu and (a, b) not in before and (b, a) not in before:
            read = [halves(acts[i].reads) if i in reads_of else set() for i in (a, b)]
            written = [halves(acts[i].writes) for i in (a, b)]
            if written[0] & (written[1] | read[1]) or written[1] & read[0]:
                found.add((b, a))
    return found


@pytest.mark.slow
@given(programs())
def test_every_race_is_real_and_every_program_with_a_race_that_matters_is_found(acts: list[Act]) -> None:
    told = {f.commands for f in check(build(acts).cmdbuf) if f.kind == Kind.RACE}
    everything = set(range(len(acts)))
    assert told <= races(acts, everything)
    stores = {i for i in everything if acts[i].writes is None}
    if races(acts, stores):  # what a store reads always matters, what a copy reads only where its result does
        assert told

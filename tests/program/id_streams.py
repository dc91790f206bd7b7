"""Command buffers written as ids and waits, and the rules of waits on them in plain Python, one command at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from npusim.program.cmdbuf import Cmdbuf
from tests.check.program import Program

LAST_ID = 65535


class Command(NamedTuple):
    """A TIU copy or a TDMA load with this id, which waits for id `wait` of the other engine; 0 for none."""

    is_tiu: bool
    id: int
    wait: int = 0


def commands(text: str) -> list[Command]:
    """ "T3 D4:2" is a TIU command with id 3 and a TDMA command with id 4 that waits for TIU id 2."""
    found = []
    for word in text.split():
        id_, _, wait = word[1:].partition(":")
        found.append(Command(word[0] == "T", int(id_), int(wait or 0)))
    return found


def cmdbuf_of(stream: Sequence[Command]) -> Cmdbuf:
    program = Program()
    for place, command in enumerate(stream):
        if command.is_tiu:
            program.copy(0x100, 0, wait=command.wait, cmd_id_tpu=command.id)
        else:
            program.load(0, at=0x100 * place, wait=command.wait, cmd_id=command.id)
    return program.cmdbuf


def numbered(stream: Sequence[Command], order: Sequence[int]) -> str:
    """`order`, places in the buffer, as commands numbered from 0 on in their engine: "D0 T0 D1"."""
    names, counts = [], {True: 0, False: 0}
    for command in stream:
        names.append(f"{'T' if command.is_tiu else 'D'}{counts[command.is_tiu]}")
        counts[command.is_tiu] += 1
    return " ".join(names[place] for place in order)


def segment_of(stream: Sequence[Command]) -> list[int]:
    """The segment, from 0 on, that each command is in."""
    segments = [0] * len(stream)
    first = number = 0
    for place, command in enumerate(stream):
        if command.id == LAST_ID or place + 1 == len(stream):
            part = list(range(first, place + 1))
            inner = _by_falls(stream, part)
            for at, segment in zip(part, inner, strict=True):
                segments[at] = number + segment
            number += max(inner) + 1
            first = place + 1
    return segments


def _by_falls(stream: Sequence[Command], part: list[int]) -> list[int]:
    changes: dict[bool, list[tuple[int, int, int]]] = {True: [], False: []}
    """(place, place of the command in front in its stream, by how much the id grows)"""
    own: dict[int, int] = {}
    before: dict[bool, int] = {}
    for at in part:
        side = stream[at].is_tiu
        if side in before:
            changes[side].append((at, before[side], stream[at].id - stream[before[side]].id))
        own[at] = sum(growth < 0 for _, _, growth in changes[side])
        before[side] = at
    falls = {side: [(at, last) for at, last, growth in changes[side] if growth < 0] for side in changes}
    if len(falls[True]) == len(falls[False]):
        return [own[at] for at in part]
    starts: list[int] = []
    for at, last in sorted(falls[True] + falls[False]):
        if any(last < start <= at for start in starts):
            continue
        for repeat, first, growth in changes[not stream[at].is_tiu]:
            if growth == 0 and last < repeat < at and not any(first < start <= repeat for start in starts):
                starts.append(repeat)
                break
        else:
            starts.append(at)
    return [sum(start <= at for start in starts) for at in part]


def needs_of(stream: Sequence[Command]) -> list[int | None]:
    """How many commands of the other engine must have ended before each command; None where it waits for ever."""
    segments = segment_of(stream)
    needs: list[int | None] = []
    for command, segment in zip(stream, segments, strict=True):
        others = [
            (other.id, at)
            for other, at in zip(stream, segments, strict=True)
            if other.is_tiu != command.is_tiu and at <= segment
        ]
        if command.wait == 0:
            needs.append(sum(at < segment for _, at in others))
        else:
            met = (i for i, (id_, at) in enumerate(others, 1) if at == segment and id_ >= command.wait)
            needs.append(next(met, None))
    return needs


def run(stream: Sequence[Command]) -> list[int]:
    """Places in the order in which a machine runs them that knows but the last id that each engine has done. It stops
    where neither engine can go on."""
    segments = segment_of(stream)
    ahead = {side: [at for at, c in enumerate(stream) if c.is_tiu == side] for side in (True, False)}
    done = {True: 0, False: 0}
    order: list[int] = []
    segment, progress = 0, True
    while progress:
        progress = False
        for side in (True, False):
            if all(segments[at] > segment for places in ahead.values() for at in places) and any(ahead.values()):
                segment, done = segment + 1, {True: 0, False: 0}
            places = ahead[side]
            if places and segments[places[0]] == segment and stream[places[0]].wait <= done[not side]:
                done[side] = stream[places[0]].id
                order.append(places.pop(0))
                progress = True
    return order


@st.composite
def programs(draw: st.DrawFn, most: int = 4) -> list[Command]:
    """Programs one behind the other. Each loads, computes and stores, so it has a TIU command and two of the TDMA, and
    waits for ids in front of the command alone."""
    stream: list[Command] = []
    for _ in range(draw(st.integers(1, most))):
        last = {True: 0, False: 0}
        more = draw(st.lists(st.booleans(), max_size=4))
        for is_tiu in draw(st.permutations([True, False, False, *more])):
            last[is_tiu] += 1
            stream.append(Command(is_tiu, last[is_tiu], draw(st.integers(0, last[not is_tiu]))))
    return stream


IDS = st.integers(1, 6) | st.just(LAST_ID)
ANY_IDS = st.lists(
    st.builds(Command, st.booleans(), IDS, st.sampled_from([0, 0, 1, 2, 5, LAST_ID])), min_size=1, max_size=16
)
"""Ids and waits without any rule."""

"""Whose time it is: the program's time cut into pieces that belong to one layer each, and from them time by layer and
by instruction.

While the TIU works, the time is its command's; what is left of the TDMA's time is exposed and belongs to the TDMA's
command. So the pieces do not overlap, and together with the time in which both engines wait they make up the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.insn import INSTRUCTIONS
from npusim.timing.timeline import TDMA, TIU, Timeline

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Pieces of time in order, none overlapping another; `place` counts the commands of `engine` in program order."""

    start_ps: Ints
    end_ps: Ints
    engine: Ints
    place: Ints

    @property
    def ps(self) -> Ints:
        return self.end_ps - self.start_ps


def pieces_of(timeline: Timeline) -> Pieces:
    """The pieces of a timeline: every TIU command, and of every TDMA command what lies in no TIU command."""
    tiu, tdma = (
        np.stack(
            [
                timeline.start_ps[e],
                timeline.end_ps[e],
                np.full(len(timeline.start_ps[e]), e),
                np.arange(len(timeline.start_ps[e])),
            ]
        )
        for e in (TIU, TDMA)
    )
    gap_start = np.concatenate([[np.iinfo(np.int64).min], tiu[1]])
    gap_end = np.concatenate([tiu[0], [np.iinfo(np.int64).max]])
    first = np.searchsorted(gap_end, tdma[0], side="right")
    last = np.searchsorted(gap_start, tdma[1], side="left")
    count = np.maximum(last - first, 0)
    which = np.repeat(np.arange(tdma.shape[1]), count)
    gap = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
    start, end = np.maximum(tdma[0, which], gap_start[gap]), np.minimum(tdma[1, which], gap_end[gap])
    exposed = np.stack([start, end, np.full(len(which), TDMA), which])[:, end > start]
    pieces = np.concatenate([tiu, exposed], axis=1)
    return Pieces(*pieces[:, np.argsort(pieces[0], kind="stable")])


@dataclass(frozen=True)
class Share:
    """What one layer, or one kind of instruction, takes of a program."""

    name: str
    num_commands: int
    ps: int
    """Its pieces of the program's time, in picoseconds."""
    tiu_ps: int
    tdma_ps: int
    macs: int
    dram_bytes: int
    first_ps: int
    last_ps: int


def layer_shares(timeline: Timeline, pieces: Pieces | None = None) -> list[Share]:
    """One Share a layer number, in the order in which they begin."""
    return _shares(timeline, pieces or pieces_of(timeline), timeline.workload.layer, lambda layer: str(layer))


def instruction_shares(timeline: Timeline, pieces: Pieces | None = None) -> list[Share]:
    """One Share a kind of instruction, the longest first."""
    kinds = (timeline.workload.tiu.kind, timeline.workload.tdma.kind)
    shares = _shares(timeline, pieces or pieces_of(timeline), kinds, lambda kind: INSTRUCTIONS[kind].mnemonic)
    return sorted(shares, key=lambda share: -share.ps)


def layer_runs(timeline: Timeline, pieces: Pieces | None = None) -> tuple[Ints, Ints, Ints]:
    """(start, end in picoseconds, layer) of runs of neighbouring pieces that belong to one layer; runs do not
    overlap."""
    pieces = pieces or pieces_of(timeline)
    layer = np.where(pieces.engine == TIU, *(_at(timeline.workload.layer[e], pieces.place) for e in (TIU, TDMA)))
    first = np.flatnonzero(np.diff(layer, prepend=-1))
    last = np.append(first[1:], len(layer)) - 1
    return pieces.start_ps[first], pieces.end_ps[last], layer[first]


def _at(values: Ints, places: Ints) -> Ints:
    return values.take(places, mode="clip") if len(values) else np.zeros_like(places)


def _shares(timeline: Timeline, pieces: Pieces, key: tuple[Ints, Ints], name) -> list[Share]:  # type: ignore[no-untyped-def]
    work, (tiu, tdma) = timeline.workload, key
    keys, inverse = np.unique(np.concatenate([tiu, tdma]), return_inverse=True)
    group = (inverse[: len(tiu)], inverse[len(tiu) :])

    def total(values: Ints, groups: Ints) -> Ints:
        out = np.zeros(len(keys), np.int64)
        np.add.at(out, groups, values)
        return out

    owner = np.where(pieces.engine == TIU, _at(group[TIU], pieces.place), _at(group[TDMA], pieces.place))
    busy = [total(timeline.end_ps[e] - timeline.start_ps[e], group[e]) for e in (TIU, TDMA)]
    starts, ends = np.full(len(keys), np.iinfo(np.int64).max), np.zeros(len(keys), np.int64)
    np.minimum.at(starts, inverse, np.concatenate(timeline.start_ps))
    np.maximum.at(ends, inverse, np.concatenate(timeline.end_ps))
    columns = (
        np.bincount(inverse, minlength=len(keys)),
        total(pieces.ps, owner),
        *busy,
        total(work.tiu.macs, group[TIU]),
        total(timeline.dram_bytes("read") + timeline.dram_bytes("write"), group[TDMA]),
        starts,
        ends,
    )
    rows = [
        Share(name(k), *values) for k, values in zip(keys.tolist(), np.stack(columns, axis=1).tolist(), strict=True)
    ]
    return sorted(rows, key=lambda share: share.first_ps)

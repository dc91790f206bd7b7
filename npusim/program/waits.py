"""What each command of a command buffer waits for, and where the engines' ids start over.

Each engine runs its own commands in order, and each command has an id. A command that waits for an id of the other
engine starts when the other engine's first command with at least that id has ended.

Ids start over between two segments. What stands in front has then ended on both engines, and neither has done any id
yet. A segment ends

- behind a command with the last id that 16 bits hold. The vendor's compiler gives ids anew there, and the runtime cuts
  the command buffer there (`npusim.program.dmabuf`);
- where an engine's id falls below its last one. Where the ids of both engines fall equally often, the vendor's
  functional model lets the first falls meet, then the second ones, and so on, wherever they stand in the buffer. Where
  they do not, the model hangs; here the places in the buffer tell which commands stand in front."""

from __future__ import annotations

from bisect import bisect, bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npusim.arrays import Ints
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.opcodes import TDMA, TIU, Engine, PerEngine
from npusim.program.cmdbuf import Cmdbuf

ID_FIELD = {Engine.TIU: "cmd_id_tpu", Engine.TDMA: "cmd_id"}
"""Field of a descriptor that holds the command's own id."""
WAIT_FIELD = {Engine.TIU: "cmd_id_gdma", Engine.TDMA: "wait_id_tpu"}
"""Field that holds the id of the other engine that it waits for, 0 for none."""
WAIT_ENABLE = "cmd_id_en"
"""Field without which a TIU command does not wait."""
_ID_BITS = 16
LAST_ID = (1 << _ID_BITS) - 1


@dataclass(frozen=True)
class Stuck:
    """A command that waits for ever."""

    engine: int
    """TIU or TDMA."""
    position: int
    """Its place in its engine's stream, from 0 on."""
    wait: int
    done: int
    """The last id that the other engine has done since ids started over; 0 for none."""


@dataclass(frozen=True)
class Waits:
    """What the commands of both engines wait for. Arrays of commands have one entry for each of that engine, in their
    order."""

    ids: PerEngine[Ints]
    wanted: PerEngine[Ints]
    """The other engine's id that each command waits for; 0 for none."""
    ends: PerEngine[Ints]
    """For each segment, how many commands of the engine stand in front of its end."""
    needs: PerEngine[Ints]
    """How many commands of the other engine must have ended before each starts: up to the one that it waits for, or all
    of the segments in front. One more than the other engine has where its segment has no command with that id."""

    @cached_property
    def known(self) -> PerEngine[Ints]:
        """How many commands of the other engine have ended when each starts, since it or one in front of it needs
        them."""
        return PerEngine(*(np.maximum.accumulate(needs) for needs in self.needs))

    @cached_property
    def turns(self) -> list[int]:
        """Which engine, TIU or TDMA, runs the next command, until the end or until neither can go on.

        Both take turns, TIU first, as far as their waits let them. This is the vendor's functional model's order; a
        program without races computes the same in any order."""
        tiu, tdma = (needs.tolist() for needs in self.needs)
        num_tiu, num_tdma = len(tiu), len(tdma)
        ran: list[int] = []
        i = j = 0
        while i < num_tiu or j < num_tdma:
            before = i + j
            if i < num_tiu and tiu[i] <= j:
                ran.append(TIU)
                i += 1
            if j < num_tdma and tdma[j] <= i:
                ran.append(TDMA)
                j += 1
            if i + j == before:
                break
        return ran

    @property
    def stuck(self) -> tuple[Stuck, ...]:
        """The commands at which both engines stop, where they do not reach the end."""
        done = PerEngine(*(self.turns.count(engine) for engine in (TIU, TDMA)))
        is_left = (done.tiu < self.ends.tiu) | (done.tdma < self.ends.tdma)
        if not is_left.any():
            return ()
        segment = int(np.argmax(is_left))
        last = PerEngine(*(self._last_done(engine, done[engine], segment) for engine in (TIU, TDMA)))
        return tuple(
            Stuck(engine, done[engine], int(self.wanted[engine][done[engine]]), last.other(engine))
            for engine in (TIU, TDMA)
            if done[engine] < self.ends[engine][segment]
        )

    def _last_done(self, engine: int, count: int, segment: int) -> int:
        start = int(self.ends[engine][segment - 1]) if segment else 0
        return int(self.ids[engine][count - 1]) if count > start else 0


def waits_of(cmdbuf: Cmdbuf) -> Waits:
    """What the commands of `cmdbuf` wait for."""
    ids = _ids(cmdbuf)
    tiu, tdma = tiu_layout(cmdbuf.chip), tdma_layout(cmdbuf.chip)
    wanted = PerEngine(
        tiu.column(cmdbuf.tiu, WAIT_FIELD[Engine.TIU]) * tiu.column(cmdbuf.tiu, WAIT_ENABLE),
        tdma.column(cmdbuf.tdma, WAIT_FIELD[Engine.TDMA]),
    )
    ends = _segment_ends(ids, cmdbuf.index, _cut_behind_last_id(ids, cmdbuf.index))
    return Waits(ids, wanted, ends, _needs(ids, wanted, ends))


def segment_lengths(cmdbuf: Cmdbuf) -> PerEngine[Ints]:
    """Commands of each segment that the runtime makes of `cmdbuf`: it looks at the last id alone."""
    cuts = _cut_behind_last_id(_ids(cmdbuf), cmdbuf.index)
    return PerEngine(*(np.diff(ends, prepend=0) for ends in cuts))


def _ids(cmdbuf: Cmdbuf) -> PerEngine[Ints]:
    return PerEngine(
        tiu_layout(cmdbuf.chip).column(cmdbuf.tiu, ID_FIELD[Engine.TIU]),
        tdma_layout(cmdbuf.chip).column(cmdbuf.tdma, ID_FIELD[Engine.TDMA]),
    )


def _cut_behind_last_id(ids: PerEngine[Ints], index: PerEngine[Ints]) -> PerEngine[Ints]:
    """Commands of each engine up to the end of each run that ends with the last id, or with the buffer."""
    places = [index[engine][ids[engine] == LAST_ID] + 1 for engine in (TIU, TDMA)]
    num_commands = len(index.tiu) + len(index.tdma)
    cuts = sorted({*np.concatenate(places).tolist(), num_commands} - {0})  # np.unique would import numpy.ma
    return _counts_at(index, np.array(cuts, np.int64))


def _segment_ends(ids: PerEngine[Ints], index: PerEngine[Ints], cuts: PerEngine[Ints]) -> PerEngine[Ints]:
    """`cuts`, and within each run the places at which ids fall."""
    falls = PerEngine(*(np.flatnonzero(np.diff(numbers) < 0) + 1 for numbers in ids))
    if not (len(falls.tiu) or len(falls.tdma)):
        return cuts
    repeats = PerEngine(*(np.flatnonzero(np.diff(numbers) == 0) + 1 for numbers in ids))
    ends = PerEngine[list[Ints]]([], [])
    begin = PerEngine(0, 0)
    for end in map(PerEngine, *(counts.tolist() for counts in cuts)):
        inner = PerEngine(*(_between(falls[engine], begin[engine], end[engine]) for engine in (TIU, TDMA)))
        if len(inner.tiu) != len(inner.tdma):
            inner = _by_place(inner, repeats, index, begin.tiu + begin.tdma)
        for engine in (TIU, TDMA):
            ends[engine].extend((inner[engine], np.array([end[engine]])))
        begin = end
    return PerEngine(*(np.concatenate(parts) for parts in ends))


def _between(rising: Ints, low: int, high: int) -> Ints:
    """Those above `low` and below `high`."""
    return rising[np.searchsorted(rising, low, "right") : np.searchsorted(rising, high)]


def _by_place(falls: PerEngine[Ints], repeats: PerEngine[Ints], index: PerEngine[Ints], begin: int) -> PerEngine[Ints]:
    """Where ids start over behind place `begin`, if the order in the buffer has to tell.

    They do where an id falls. If an id of the other engine repeats just in front of that, they do so there: two
    programs, each with one TIU command, have the TIU ids 1 and 1."""
    found = [
        (place, before, engine)
        for engine in (TIU, TDMA)
        for place, before in zip(*_places(falls[engine], index[engine]), strict=True)
    ]
    repeated = PerEngine(*(_places(repeats[engine], index[engine]) for engine in (TIU, TDMA)))
    starts = [begin]
    for place, before, engine in sorted(found):
        if before < starts[-1]:
            continue  # ids have started over between both commands
        places, befores = repeated.other(engine)
        first = max(bisect(places, before), bisect_left(befores, starts[-1]))
        starts.append(min([place, *places[first : first + 1]]))
    return _counts_at(index, np.array(starts[1:], np.int64))


def _places(positions: Ints, index: Ints) -> tuple[list[int], list[int]]:
    """Places in the buffer of an engine's commands, and of those in front of them in its stream."""
    return index[positions].tolist(), index[positions - 1].tolist()


def _counts_at(index: PerEngine[Ints], places: Ints) -> PerEngine[Ints]:
    return PerEngine(*(np.searchsorted(own, places) for own in index))


def _needs(ids: PerEngine[Ints], wanted: PerEngine[Ints], ends: PerEngine[Ints]) -> PerEngine[Ints]:
    """From ids to counts. Within a segment ids do not fall, so with the segment's number in front they never do."""
    segment = PerEngine(*(np.repeat(np.arange(len(counts)), np.diff(counts, prepend=0)) for counts in ends))
    begins = PerEngine(*(np.concatenate(([0], counts[:-1])) for counts in ends))
    found = []
    for engine in (TIU, TDMA):
        mine = segment[engine]
        given, asked = segment.other(engine) << _ID_BITS | ids.other(engine), mine << _ID_BITS | wanted[engine]
        first = np.searchsorted(given, asked)
        is_met = first < ends.other(engine)[mine]
        count = np.where(is_met, first + 1, len(given) + 1)
        found.append(np.where(wanted[engine] > 0, count, begins.other(engine)[mine]))
    return PerEngine(*found)

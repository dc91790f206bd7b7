"""What each command wrote to LMEM, which commands read it, and what overwrote it.

A command that reads the wrong data leaves two traces. Nothing reads the data that was meant for it. And the data that
it reads instead is read once too often, or as another tensor than it was written as. Correct programs have one trace or
the other, but not both in one place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.ordering import TDMA, Ordering, Step
from npusim.chip import Chip
from npusim.insn.operand import Access
from npusim.mem.region import LMEM, Region
from npusim.mem.tensor import LocalTensor


@dataclass(eq=False)
class Written:
    """One result tensor, or one plane of it, that a command wrote."""

    place: int
    """The command's place in Ordering.order, from 1."""
    tensors: tuple[LocalTensor, ...] = ()
    readers: list[int] = field(default_factory=list)
    """Places of the first two commands that read a part of it."""
    is_reshaped: bool = False
    """A command read it as a tensor of another address, shape or strides."""
    hides_shared: bool = False
    """It has overwritten something that two commands had read."""
    cut_by: int = 0
    """Place of the first command that overwrote a part of it; 0 for none."""


@dataclass(frozen=True)
class SecondRead:
    """A read of data that another command has already read. The read may have been meant for data that was never
    loaded."""

    step: Step
    operand: str
    writer: Step
    first: Step


class Ledger:
    """Everything that one command buffer has written to LMEM. Each `Written` has a number, from 1."""

    def __init__(self, chip: Chip, ordering: Ordering) -> None:
        self._chip, self._order = chip, ordering.order
        self.owner = np.zeros(chip.lmem_total_bytes, np.int32)
        """For each byte of LMEM, the number of the Written that it belongs to; 0 for none."""
        writes = (access for step in ordering.order for access in step.footprint.writes)
        self._among = np.zeros(1 + sum(max(1, len(access.tensors)) for access in writes), bool)
        self._written = [Written(0)]
        self._numbers: list[range] = [range(0)]
        """Numbers of what each command wrote, by the command's place."""
        self._sources: set[int] = set()
        """Places of the commands whose data the current command reads. If it overwrites that data, it is an update in
        place."""
        self._seen: list[tuple[Access, Written]] = []
        """What the current command reads, by operand."""
        self._lost: list[tuple[int, int]] = []
        """(place of a command whose result was overwritten before anything read it, place of the last command that
        overwrote it)."""
        self._read_by: dict[int, list[Written]] = {}
        """What each command read, by the command's place."""
        self.second_reads: dict[int, list[SecondRead]] = {}
        """By the number of bytes of the operand."""

    def numbers_in(self, owners: NDArray[np.int32]) -> list[int]:
        """The different numbers in `owners`, ascending."""
        if not owners.size:
            return []
        first = owners.item(0)
        if (owners == first).all():
            return [first]
        self._among[owners.reshape(-1)] = True
        found = np.flatnonzero(self._among)
        self._among[found] = False
        return found.tolist()

    def writer(self, number: int) -> Step:
        return self._order[self._written[number].place - 1]

    def cutter(self, number: int) -> Step | None:
        """The first command that overwrote a part of the Written of that number; None if there is none."""
        cut_by = self._written[number].cut_by
        return self._order[cut_by - 1] if cut_by else None

    def begin(self) -> None:
        """Starts with the next command: its calls of `read` follow, then one of `write`."""
        self._sources.clear()
        self._seen.clear()

    def read(self, place: int, number: int, access: Access) -> None:
        """The command at `place` reads a part of the Written with this number as `access`."""
        written = self._written[number]
        self._sources.add(written.place)
        self._seen.append((access, written))
        if place not in written.readers and len(written.readers) < 2:
            written.readers.append(place)
        if access.tensors and written.tensors and access.tensors[0][:3] != written.tensors[0][:3]:
            written.is_reshaped = True

    def read_unneeded(self, place: int, step: Step) -> None:
        """The command at `place` reads, but nothing needs its result. That is one finding. The data that it reads
        counts as read, so that it is not another one."""
        for access in step.footprint.reads:
            for region in access.regions:
                if region.memory == LMEM:
                    for number in self.numbers_in(region.view(self.owner)):
                        if not self._written[number].readers:
                            self._written[number].readers.append(place)

    def write(self, place: int, step: Step) -> None:
        """The command at `place` writes its result, after all its reads were noted."""
        self._note_second_reads(place, step)
        first = len(self._written)
        beaten: set[int] = set()
        for access in step.footprint.writes:
            for tensors, regions in _planes(access, self._chip):
                views = [region.view(self.owner) for region in regions]
                under = {number for view in views for number in self.numbers_in(view)}
                hides_shared = any(len(self._written[number].readers) > 1 for number in under)
                for view in views:
                    view[...] = len(self._written)
                self._written.append(Written(place, tensors, hides_shared=hides_shared))
                beaten |= under
        self._numbers.append(range(first, len(self._written)))
        self._note_cuts(place, [self._written[number] for number in beaten if 0 < number < first])

    def _note_cuts(self, place: int, beaten: list[Written]) -> None:
        losers = set()
        for written in beaten:
            if written.place not in self._sources and not only_clears(self._order[written.place - 1]):
                written.cut_by = written.cut_by or place
                losers.add(written.place)
        for loser in losers:
            if not any(self._written[number].readers for number in self._numbers[loser]) and self._is_gone(loser):
                self._lost.append((loser, place))

    def _is_gone(self, loser: int) -> bool:
        numbers = self._numbers[loser]
        regions = (r for access in self._order[loser - 1].footprint.writes for r in access.regions if r.memory == LMEM)
        views = (region.view(self.owner) for region in regions)
        return not any(((view >= numbers.start) & (view < numbers.stop)).any() for view in views)

    def _note_second_reads(self, place: int, step: Step) -> None:
        """Notes reads that may have been meant for data that was never loaded. Another command has read the same data
        before, and one of these is so: this read is as another tensor than was written; another operand was loaded
        since; or the command repeats what an earlier one did."""
        if not self._seen:
            return
        read = self._read_by[place] = [written for _, written in self._seen]
        if all(written.readers[0] == place for written in read):
            return
        newest = max((w.place for w in read if _is_load(self._order[w.place - 1])), default=0)
        for access, written in self._seen:
            first, writer = written.readers[0], self._order[written.place - 1]
            if first == place or only_clears(writer):
                continue
            tensors = access.tensors[:1], written.tensors[:1]
            is_reshaped = all(tensors) and tensors[0][0][:3] != tensors[1][0][:3]
            if is_reshaped or newest > first or self._repeats(step, read, first):
                found = SecondRead(step, access.name, writer, self._order[first - 1])
                self.second_reads.setdefault(access.num_bytes, []).append(found)

    def _repeats(self, step: Step, read: list[Written], first: int) -> bool:
        """Whether `step` does the same as the command at place `first` with the same data."""
        before = self._order[first - 1]
        return (
            read == self._read_by.get(first)
            and step.mnemonic == before.mnemonic
            and [a.tensors for a in step.footprint.reads] == [a.tensors for a in before.footprint.reads]
        )

    def finish(self) -> Iterator[Found]:
        """Yields results that nothing has read, when all commands have run."""
        for loser, place in self._lost:
            step, lost = self._order[place - 1], self._order[loser - 1]
            text = f"{step.name} overwrites what {lost.name} wrote before anything read it"
            over = self._by(place)
            if only_clears(step) or any(len(w.readers) > 1 or w.is_reshaped for w in over):
                yield Kind.MISTAKEN, f"{text}, and a later read of that place may be meant for it", (step, lost)
            elif any(w.hides_shared for w in self._by(loser)):
                yield Kind.MISTAKEN, f"{text}, and what was there before was read twice", (step, lost)
            else:
                yield Kind.LOST, text, (step, lost)
        for place, step in enumerate(self._order, 1):
            wrote = self._by(place)
            if wrote and not any(w.readers or w.cut_by for w in wrote) and not only_clears(step):
                text = f"nothing reads what {step.name} writes to LMEM"
                if any(w.hides_shared for w in wrote):
                    yield Kind.MISTAKEN, f"{text}, and what was there before was read twice", (step,)
                else:
                    yield Kind.UNUSED, text, (step,)

    def _by(self, place: int) -> list[Written]:
        return [self._written[number] for number in self._numbers[place]]


def only_clears(step: Step) -> bool:
    return step.instruction is not None and step.instruction.clears()


def _is_load(step: Step) -> bool:
    """Whether a command brings data from GMEM to LMEM."""
    return step.engine == TDMA and any(r.memory != LMEM for access in step.footprint.reads for r in access.regions)


def _planes(access: Access, chip: Chip) -> Iterator[tuple[tuple[LocalTensor, ...], list[Region]]]:
    """(tensors, regions) of what an access writes to LMEM: one entry for each plane, one for all pieces of a tensor."""
    if len(access.tensors) > 1 and not access.operand.in_pieces:
        for tensor in access.tensors:
            yield (tensor,), list(tensor.regions(chip))
    elif regions := [region for region in access.regions if region.memory == LMEM]:
        yield access.tensors, regions

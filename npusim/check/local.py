"""Faults in LMEM: races, reads of what nothing wrote, and data that another command destroyed.

Every byte remembers the last command of each engine that wrote it and that read it. As each engine runs in order, a
command that comes behind the last of them by its ids comes behind all of them, so one pass over the timeline sees every
race."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.need import NeededRead
from npusim.check.timeline import TDMA, Step, Timeline
from npusim.chip import Chip
from npusim.insn.operand import Access, Holds
from npusim.mem.region import LMEM, Region


class LocalMemory:
    """What is known of each byte of LMEM as the timeline goes on."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.is_set = np.zeros(chip.lmem_total_bytes, bool)
        """Written by an earlier command buffer of the same program."""

    def check(self, timeline: Timeline, reads: list[list[NeededRead]]) -> Iterator[Found]:
        """Every fault of one command buffer, in its order."""
        run = _Run(self.chip, timeline, self.is_set)
        for place, (step, needed) in enumerate(zip(timeline.order, reads, strict=True), 1):
            yield from run.read(step, needed)
            yield from run.write(place, step)
        yield from run.unused()
        self.is_set |= run.owner > 0


class _Run:
    """One command buffer. Commands go by position in their engine's stream, or by place in the timeline (`owner`), both
    from 1 on."""

    def __init__(self, chip: Chip, timeline: Timeline, is_set: NDArray[np.bool_]) -> None:
        self.timeline = timeline
        num_bytes, num_steps = chip.lmem_total_bytes, len(timeline.order)
        self.last_write = np.zeros((2, num_bytes), np.int32)
        self.last_read = np.zeros((2, num_bytes), np.int32)
        self.owner = np.zeros(num_bytes, np.int32)
        self.is_set = is_set
        self.was_read = np.zeros(num_steps + 1, bool)
        self.cut_by = np.zeros(num_steps + 1, np.int32)
        """The first command that overwrote a part of what a command wrote."""
        self._sources: set[int] = set()
        """Whose data the command at hand reads: what it overwrites of them is an update in place."""
        self._among = np.zeros(num_steps + 1, bool)
        self._told: set[tuple[Kind, int, int]] = set()

    def read(self, step: Step, needed: list[NeededRead]) -> Iterator[Found]:
        self._sources = set()
        if not needed:
            self._read_for_nothing(step)
        for access, region, mask in self._without_padding(step, needed):
            yield from self._race(step, region, mask, self.last_write, does=f"reads {access.name}, which", did="writes")
            owners = _picked(region.view(self.owner), mask)
            for owner in self._owners(owners):
                if not owner:
                    yield from self._unset(step, access, region, mask)
                    continue
                self.was_read[owner] = True
                self._sources.add(owner)
                if self.cut_by[owner]:
                    yield from self._torn(step, access, owner)
                yield from self._type(step, access, owner)
            np.copyto(region.view(self.last_read[step.engine]), step.position, where=True if mask is None else mask)

    def write(self, place: int, step: Step) -> Iterator[Found]:
        regions = [region for access in step.footprint.writes for region in access.regions if region.memory == LMEM]
        beaten: set[int] = set()
        for region in regions:
            yield from self._race(step, region, None, self.last_write, does="writes what", did="writes")
            yield from self._race(step, region, None, self.last_read, does="writes what", did="reads")
            beaten.update(self._owners(region.view(self.owner)))
            region.view(self.last_write[step.engine])[...] = step.position
            region.view(self.owner)[...] = place
        for owner in beaten - self._sources - {0, place}:
            loser = self.timeline.order[owner - 1]
            if not _only_clears(loser):
                self.cut_by[owner] = self.cut_by[owner] or place
                if not self.was_read[owner] and self._is_gone(loser, owner):
                    yield from self._tell(
                        Kind.LOST,
                        f"{step.name} overwrites what {loser.name} wrote before anything read it",
                        step,
                        loser,
                    )

    def unused(self) -> Iterator[Found]:
        """Commands whose results stay in LMEM unread."""
        for place, step in enumerate(self.timeline.order, 1):
            writes = any(region.memory == LMEM for access in step.footprint.writes for region in access.regions)
            if writes and not self.was_read[place] and not self.cut_by[place] and not _only_clears(step):
                yield Kind.UNUSED, f"nothing reads what {step.name} writes to LMEM", (step,)

    def _read_for_nothing(self, step: Step) -> None:
        """A command whose result nothing needs: that is what is wrong, and not that its operands are lost."""
        for access in step.footprint.reads:
            for region in access.regions:
                if region.memory == LMEM:
                    self.was_read[self._owners(region.view(self.owner))] = True

    def _is_gone(self, loser: Step, owner: int) -> bool:
        return not any((r.view(self.owner) == owner).any() for access in loser.footprint.writes for r in access.regions)

    def _race(
        self,
        step: Step,
        region: Region,
        mask: NDArray[np.bool_] | None,
        last: NDArray[np.int32],
        *,
        does: str,
        did: str,
    ) -> Iterator[Found]:
        other = 1 - step.engine
        latest = int(_picked(region.view(last[other]), mask).max(initial=0))
        if latest > step.known and not (last is self.last_read and self._loads_the_same(step, region)):
            partner = self.timeline.streams[other][latest - 1]
            text = f"{step.name} {does} {partner.name} {did}, and no id puts one behind the other"
            yield from self._tell(Kind.RACE, text, step, partner)

    def _loads_the_same(self, step: Step, region: Region) -> bool:
        """Whether the bytes there come from a load of the same bytes: compilers load a shared access again for every
        tile."""
        (owner, *others) = self._owners(region.view(self.owner))
        if others or not owner:
            return False
        before = self.timeline.order[owner - 1]
        if (
            before.engine != TDMA
            or step.engine != TDMA
            or before.footprint != step.footprint
            or _work(before) != _work(step)
        ):
            return False
        sources = [r for access in step.footprint.reads for r in access.regions]
        between = self.timeline.streams[TDMA][before.position : step.position]
        return not any(
            r.overlaps(s) for b in between for access in b.footprint.writes for r in access.regions for s in sources
        )

    def _unset(self, step: Step, access: Access, region: Region, mask: NDArray[np.bool_] | None) -> Iterator[Found]:
        unset = (region.view(self.owner) == 0) & ~region.view(self.is_set)
        count = int(_picked(unset, mask).sum())
        if count:
            partly = access.holds is Holds.RECORDS and count < unset.size
            kind = Kind.PARTLY_UNSET if partly else Kind.UNINITIALISED
            text = f"{step.name} reads {access.name}, of which nothing has written {count:,} of {unset.size:,} bytes"
            yield from self._tell(kind, text, step, step)

    def _torn(self, step: Step, access: Access, owner: int) -> Iterator[Found]:
        writer, cutter = self.timeline.order[owner - 1], self.timeline.order[self.cut_by[owner] - 1]
        text = (
            f"{step.name} reads in {access.name} what {writer.name} wrote, but {cutter.name} has overwritten a "
            "part of that since"
        )
        yield from self._tell(Kind.TORN, text, step, writer)

    def _type(self, step: Step, access: Access, owner: int) -> Iterator[Found]:
        writer = self.timeline.order[owner - 1]
        result = writer.footprint.writes[0]
        written, read = result.element_bytes, access.element_bytes
        if written and read and written != read:
            text = (
                f"{step.name} reads {access.name} in elements of {read} bytes, but {writer.name} wrote elements "
                f"of {written}"
            )
            yield from self._tell(Kind.TYPE, text, step, writer)
        elif access.holds is Holds.INDICES and result.holds is Holds.ENTRIES:
            text = f"{step.name} takes for indices what {writer.name} found in a table of bf16"
            yield from self._tell(Kind.TYPE, text, step, writer)

    def _tell(self, kind: Kind, text: str, step: Step, other: Step) -> Iterator[Found]:
        """Each pair of commands once a kind."""
        key = (kind, step.index, other.index)
        if key not in self._told:
            self._told.add(key)
            yield kind, text, (step,) if step is other else (step, other)

    def _without_padding(self, step: Step, needed: list[NeededRead]) -> Iterator[NeededRead]:
        """Leaves out the channel that makes an odd number of channels even.

        double_conv works on pairs of input channels; the compiler pads an odd number with a channel whose kernel is
        zero and leaves the channel itself to chance. It is one where nothing of it comes from the commands that wrote
        the other channels."""
        insn = step.instruction
        if insn is None or not insn.pairs_channels():
            yield from needed
            return
        for read in needed:
            if read.access.name != "opd0" or not self._pads(insn.chip, read.access):
                yield read
            elif read.region == read.access.regions[0]:
                ifmap = read.access.tensors[0]
                for region in ifmap.channels(0, ifmap.shape[1] - 1, insn.chip).regions(insn.chip):
                    yield NeededRead(read.access, region, None)

    def _pads(self, chip: Chip, access: Access) -> bool:
        ifmap = access.tensors[0]
        last = ifmap.channels(ifmap.shape[1] - 1, 1, chip)
        others = ifmap.channels(0, ifmap.shape[1] - 1, chip)
        theirs, its = (
            {o for r in tensor.regions(chip) for o in self._owners(r.view(self.owner))} for tensor in (others, last)
        )
        return not theirs & its

    def _owners(self, owners: NDArray[np.int32]) -> list[int]:
        """The different values, ascending."""
        if not owners.size:
            return []
        low, high = int(owners.min()), int(owners.max())
        if low == high:
            return [low]
        self._among[owners.reshape(-1)] = True
        found = np.flatnonzero(self._among)
        self._among[found] = False
        return found.tolist()


def _picked(values: NDArray, mask: NDArray[np.bool_] | None) -> NDArray:
    return values if mask is None else values[mask]


def _only_clears(step: Step) -> bool:
    return step.instruction is not None and step.instruction.clears()


def _work(step: Step) -> tuple:
    return step.instruction.work() if step.instruction else ()

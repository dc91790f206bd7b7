"""Faults in LMEM: races, reads of what nothing wrote, and reads of data that another command has overwritten.

For each byte and engine the last command that wrote it and the last that read it are kept. Each engine runs in order,
so a command that starts after the last of them has ended starts after all of them. One pass in this order therefore
finds every race."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.need import NeededRead
from npusim.check.ordering import TDMA, Ordering, Step
from npusim.check.written import Ledger, SecondRead
from npusim.chip import Chip
from npusim.insn.operand import Access, Holds
from npusim.mem.region import LMEM, Region


class LocalMemory:
    """What is known of each byte of LMEM from one command buffer of a job to the next."""

    def __init__(self, chip: Chip, second_reads: dict[int, list[SecondRead]]) -> None:
        self.chip, self._second_reads = chip, second_reads
        self.is_set = np.zeros(chip.lmem_total_bytes, bool)
        """One entry a byte: an earlier command buffer of the same job has written it."""

    def check(self, ordering: Ordering, reads: list[list[NeededRead]]) -> Iterator[Found]:
        """Yields every fault of one command buffer, in the order of `ordering`; `reads` is needed_reads of it."""
        run = _Run(self.chip, ordering, self.is_set)
        for place, (step, needed) in enumerate(zip(ordering.order, reads, strict=True), 1):
            run.ledger.begin()
            yield from run.read(place, step, needed)
            yield from run.write(place, step)
        yield from run.ledger.finish()
        self.is_set |= run.ledger.owner > 0
        for num_bytes, found in run.ledger.second_reads.items():
            self._second_reads.setdefault(num_bytes, []).extend(found)


class _Run:
    """The pass over one command buffer. Commands are known by their position in their engine's stream, from 1.

    For each byte of LMEM: `last_write[engine]` and `last_read[engine]` have the position of the last command of
    `engine` that wrote and read it (0 for none), and `ledger.owner` has what it holds now."""

    def __init__(self, chip: Chip, ordering: Ordering, is_set: NDArray[np.bool_]) -> None:
        self.ordering = ordering
        self.ledger = Ledger(chip, ordering)
        self.last_write = np.zeros((2, chip.lmem_total_bytes), np.int32)
        self.last_read = np.zeros((2, chip.lmem_total_bytes), np.int32)
        self.is_set = is_set
        self._told: set[tuple[Kind, int, int]] = set()

    def read(self, place: int, step: Step, needed: list[NeededRead]) -> Iterator[Found]:
        if not needed:
            self.ledger.read_unneeded(place, step)
        for access, region, mask in self._without_padding(step, needed):
            yield from self._race(step, region, mask, self.last_write, does=f"reads {access.name}, which", did="writes")
            for number in self.ledger.numbers_in(_picked(region.view(self.ledger.owner), mask)):
                if not number:
                    yield from self._unset(step, access, region, mask)
                    continue
                self.ledger.read(place, number, access)
                yield from self._torn(step, access, number)
                yield from self._type(step, access, self.ledger.writer(number))
            np.copyto(region.view(self.last_read[step.engine]), step.position, where=True if mask is None else mask)

    def write(self, place: int, step: Step) -> Iterator[Found]:
        for access in step.footprint.writes:
            for region in access.regions:
                if region.memory == LMEM:
                    yield from self._race(step, region, None, self.last_write, does="writes what", did="writes")
                    yield from self._race(step, region, None, self.last_read, does="writes what", did="reads")
                    region.view(self.last_write[step.engine])[...] = step.position
        self.ledger.write(place, step)

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
            partner = self.ordering.streams[other][latest - 1]
            text = f"{step.name} {does} {partner.name} {did}, and no wait puts them in order"
            yield from self._tell(Kind.RACE, text, step, partner)

    def _loads_the_same(self, step: Step, region: Region) -> bool:
        """Whether `step` loads the same bytes that already lie there. Compilers load shared data again for every tile,
        and such a load changes nothing."""
        (number, *others) = self.ledger.numbers_in(region.view(self.ledger.owner))
        if others or not number:
            return False
        before = self.ledger.writer(number)
        if (
            before.engine != TDMA
            or step.engine != TDMA
            or before.footprint != step.footprint
            or _work(before) != _work(step)
        ):
            return False
        sources = [r for access in step.footprint.reads for r in access.regions]
        between = self.ordering.streams[TDMA][before.position : step.position]
        return not any(
            r.overlaps(s) for b in between for access in b.footprint.writes for r in access.regions for s in sources
        )

    def _unset(self, step: Step, access: Access, region: Region, mask: NDArray[np.bool_] | None) -> Iterator[Found]:
        unset = (region.view(self.ledger.owner) == 0) & ~region.view(self.is_set)
        count = int(_picked(unset, mask).sum())
        if count:
            text = f"{step.name} reads {access.name}, but nothing has written {count:,} of its {unset.size:,} bytes"
            yield from self._tell(Kind.UNINITIALISED, text, step, step)

    def _torn(self, step: Step, access: Access, number: int) -> Iterator[Found]:
        writer, cutter = self.ledger.writer(number), self.ledger.cutter(number)
        if cutter:
            text = (
                f"the {access.name} of {step.name} is what {writer.name} wrote, but {cutter.name} has overwritten a "
                "part of it since"
            )
            yield from self._tell(Kind.TORN, text, step, writer)

    def _type(self, step: Step, access: Access, writer: Step) -> Iterator[Found]:
        result = writer.footprint.writes[0]
        written, read = result.element_bytes, access.element_bytes
        if written and read and written != read:
            text = (
                f"{step.name} reads {access.name} as elements of {read} bytes, but {writer.name} wrote elements "
                f"of {written}"
            )
            yield from self._tell(Kind.TYPE, text, step, writer)
        elif access.holds is Holds.INDICES and result.holds is Holds.ENTRIES:
            text = f"{step.name} uses as indices what {writer.name} looked up in a table of bf16 numbers"
            yield from self._tell(Kind.TYPE, text, step, writer)

    def _tell(self, kind: Kind, text: str, step: Step, other: Step) -> Iterator[Found]:
        """Yields the finding, but only the first of its kind for a pair of commands."""
        key = (kind, step.index, other.index)
        if key not in self._told:
            self._told.add(key)
            yield kind, text, (step,) if step is other else (step, other)

    def _without_padding(self, step: Step, needed: list[NeededRead]) -> Iterator[NeededRead]:
        """Leaves out a channel that only pads an odd number of channels.

        double_conv works on pairs of input channels. The compiler pads an odd number of channels with one whose kernel
        is zero, and writes nothing into that channel. The last channel is taken to be such padding if none of its bytes
        come from a command that wrote the other channels."""
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
            {n for r in tensor.regions(chip) for n in self.ledger.numbers_in(r.view(self.ledger.owner))}
            for tensor in (others, last)
        )
        return not theirs & its


def _picked(values: NDArray, mask: NDArray[np.bool_] | None) -> NDArray:
    return values if mask is None else values[mask]


def _work(step: Step) -> tuple:
    return step.instruction.work() if step.instruction else ()

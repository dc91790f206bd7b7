"""Faults in GMEM: addresses outside the program's memory, stores to weights, loads of what nothing has stored. Only the
DMA touches GMEM, in order, so there are no races."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from npusim.check.area import EVERYTHING, Area
from npusim.check.cells import Cells, Cut
from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.ordering import Ordering, Step
from npusim.check.written import SecondRead
from npusim.insn.operand import Access
from npusim.insn.tdma_base import Transfer
from npusim.mem.region import LMEM, Region
from npusim.state import NUM_BASE_REGS

_NEAR = 16
"""A load is near another one if at most this many commands lie between them."""


@dataclass
class _Store:
    """One write to GMEM, and what became of the bytes."""

    step: Step | None
    """None for the host and for CPU routines."""
    name: str
    region: Region
    is_output: bool
    lost: int = 0
    """Bytes that were overwritten before anything read them."""
    loads: list[Step] = field(default_factory=list)
    """The first and the last command that read some of it."""
    is_read: bool = False
    element_bytes: int = 0
    """Size of the elements that were stored; 0 if it is not known."""
    cut_by: str = ""
    """Name of what first overwrote a part of it after it had been read; "" for nothing."""

    def could_be_meant_by(self, reader: Step) -> bool:
        """Whether `reader` comes after the store, and near the loads of other parts of it, if there are any."""
        if self.step is None or self.step.section != reader.section:
            return True
        near = [step.index for step in self.loads if step.section == reader.section]
        is_near = not near or min(near) - _NEAR <= reader.index <= max(near) + _NEAR
        return self.step.index < reader.index and is_near


class GlobalMemory:
    """What is known of each byte of GMEM as command buffers run one after the other. Without areas nothing is known,
    and nothing is checked."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self.areas = tuple(areas)
        self._cells = [
            Cells(max((a.end for a in self.areas if a.base_reg == reg), default=0)) for reg in range(NUM_BASE_REGS)
        ]
        self._stores: list[_Store] = []
        self._streams: list[tuple[int, int]] = []
        """(base register, start) of loads of compressed data, whose length is not known: it ends inside its area."""
        self._frozen = [_whole(a) for a in self.areas if a.num_bytes and not a.is_writable]
        self._kept = [a for a in self.areas if a.is_kept]
        self._cut(_whole(area) for area in self.areas if area.num_bytes)
        for area in self.areas:
            if area.is_set and area.is_writable:
                self.set(_whole(area), None, area.name)
            elif area.is_set:
                cells, at = self._at(_whole(area))
                cells.is_set[at] = True

    def _cut(self, regions: Iterable[Region]) -> None:
        by_register: list[list[Region]] = [[] for _ in self._cells]
        for region in regions:
            by_register[region.memory].append(region)
        for cells, found in zip(self._cells, by_register, strict=True):
            cells.cut(found)

    def _at(self, region: Region) -> tuple[Cells, Cut]:
        cells = self._cells[region.memory]
        return cells, cells.of(region)

    def set(self, region: Region, step: Step | None, name: str) -> None:
        """Marks bytes as written: by a command, by a CPU routine or by the host."""
        cells, at = self._at(region)
        writer = cells.writer[at]
        numbers = self._writers(writer)
        if numbers:
            self._count_lost(writer, np.where(cells.was_read[at], 0, cells.sizes[at]))
        for number in numbers:
            before = self._stores[number - 1]
            if before.is_read and not before.cut_by:
                before.cut_by = name
        is_output = any(
            a.base_reg == region.memory and a.start <= region.start and region.end <= a.end for a in self._kept
        )
        self._stores.append(_Store(step, name, region, is_output))
        cells.is_set[at] = True
        cells.was_read[at] = False
        cells.writer[at] = len(self._stores)

    def _writers(self, writer: NDArray[np.int32]) -> list[int]:
        """The different numbers in `writer`, ascending, without 0."""
        first = writer.item(0) if writer.size else 0
        numbers = [first] if (writer == first).all() else np.flatnonzero(np.bincount(writer)).tolist()
        return [number for number in numbers if number]

    def read(self, region: Region, reader: str, steps: tuple[Step, ...] = (), size: int = 0) -> Iterator[Found]:
        """Marks bytes as read by `reader`, and yields what is wrong with them. `size` is the element size that the
        reader expects; 0 if it takes any."""
        cells, at = self._at(region)
        is_set, writer = cells.is_set[at], cells.writer[at]
        if not is_set.all():
            missing = cells.bytes_of(at, ~is_set)
            text = (
                f"{reader} loads {region.num_bytes:,} bytes from {self._where(region)}, but nothing has stored "
                f"{missing:,} of them"
            )
            is_beside = missing < region.num_bytes and self._are_beside(region, ~is_set)
            yield Kind.PARTLY_UNSET if is_beside else Kind.UNINITIALISED, text, steps
        for number in self._writers(writer):
            store = self._stores[number - 1]
            store.is_read = True
            store.loads[1:] = steps
            if size and store.element_bytes not in (0, size):
                yield (
                    Kind.TYPE,
                    f"{reader} converts elements of {size} bytes, but {store.name} stored elements of "
                    f"{store.element_bytes}",
                    steps,
                )
            if store.cut_by:
                text = (
                    f"{reader} loads from {self._where(region)} what {store.name} stored, after {store.cut_by} has "
                    "overwritten a part of it"
                )
                yield Kind.PARTLY_UNSET if self._are_beside(region, writer == number) else Kind.TORN, text, steps
        cells.was_read[at] = True

    def _are_beside(self, region: Region, chosen: NDArray[np.bool_]) -> bool:
        """Whether all chosen cells of `region` lie past the end of the tensor in which it starts, as where a load is
        longer than its tensor.

        If several tensors use that memory in turn, it is the longest that starts at the same place, or else the
        smallest that holds all that was stored there."""
        cells, at = self._at(region)
        first = int(cells.writer[at][0])
        stored = self._stores[first - 1].region if first else region._replace(extents=(), strides=(), run=1)
        tensors = [a for a in self.areas if a.is_tensor and a.base_reg == region.memory]
        end = (
            max((a.end for a in tensors if a.start == region.start), default=0)
            or min(
                (a.num_bytes, a.end) for a in [*tensors, EVERYTHING] if a.start <= stored.start and stored.end <= a.end
            )[1]
        )
        return bool((cells.bounds[:-1][at][chosen] >= end).all())

    def check(self, ordering: Ordering) -> Iterator[Found]:
        """Every fault of one command buffer."""
        if not self.areas:
            return
        footprints = {id(step.footprint): step.footprint for step in ordering.order}
        touched = {
            key: [[(a, region) for a in accesses for region in self._inside(a)] for accesses in footprint]
            for key, footprint in footprints.items()
        }
        inside: set[int] = set()
        self._cut(region for pairs in touched.values() for side in pairs for _, region in side)
        for step in ordering.order:
            reads, writes = touched[id(step.footprint)]
            for access, region in reads:
                yield from self._load(step, access, region)
            for _, region in writes:
                yield from self._store(step, region)
            if id(step.footprint) not in inside:
                outside = list(self._outside(step))
                yield from outside
                inside.update([] if outside else [id(step.footprint)])

    def _inside(self, access: Access) -> Iterator[Region]:
        for region in access.regions:
            if region.memory != LMEM and region.start >= 0:
                if access.operand.at_most:
                    ends = [
                        a.end for a in self.areas if a.base_reg == region.memory and a.start <= region.start < a.end
                    ]
                    region = region._replace(run=min(region.run, min(ends, default=0) - region.start))
                if region.run > 0 and region.end <= self._cells[region.memory].num_bytes:
                    yield region

    def _outside(self, step: Step) -> Iterator[Found]:
        for access in step.footprint.reads + step.footprint.writes:
            for region in access.regions:
                if region.memory == LMEM:
                    continue
                end = region.start + 1 if access.operand.at_most else region.end
                size = self._cells[region.memory].num_bytes
                if region.start < 0 or end > size:
                    text = (
                        f"the {access.name} of {step.name} is at bytes {region.start:#x} to {end:#x} from base "
                        f"register {region.memory}"
                    )
                    yield Kind.OUT_OF_RANGE, f"{text}, but the program has {size:#x} bytes there", (step,)

    def _load(self, step: Step, access: Access, region: Region) -> Iterator[Found]:
        if access.operand.at_most:
            self._streams.append((region.memory, region.start))
            cells, at = self._at(region)
            cells.was_read[at] = True
        else:
            converts = isinstance(step.instruction, Transfer) and step.instruction.table() is not None
            size = _element_bytes(step, 0) if converts else 0
            for area in self.areas if size else ():
                is_there = area.base_reg == region.memory and area.start <= region.start < area.end
                if is_there and area.element_bytes not in (0, size):
                    text = f"{step.name} converts elements of {size} bytes, but {area.name} has {area.element_bytes}"
                    yield Kind.TYPE, text, (step,)
            yield from self.read(region, step.name, (step,), size)

    def _store(self, step: Step, region: Region) -> Iterator[Found]:
        if any(region.overlaps(frozen) for frozen in self._frozen):
            yield Kind.READ_ONLY, f"{step.name} stores to {self._where(region)}, which is read-only", (step,)
        self.set(region, step, step.name)
        self._stores[-1].element_bytes = _element_bytes(step, 1)

    def _where(self, region: Region) -> str:
        names = [a.name for a in self.areas if a.base_reg == region.memory and a.start <= region.start < a.end]
        return f"base{region.memory}+{region.start:#x}" + (f" ({names[-1]})" if names else "")

    def unread(self, second_reads: dict[int, list[SecondRead]]) -> Iterator[Found]:
        """What nothing has read by the end of the program: bytes of a store, bytes of a weight, or a whole input.

        `second_reads` as in LocalMemory: reads that may have been meant for those bytes, by the number of bytes."""
        for area in self._kept:
            cells, at = self._at(_whole(area))
            if not cells.is_set[at].all():
                missing = cells.bytes_of(at, ~cells.is_set[at])
                yield Kind.UNSTORED, f"nothing stores {missing:,} of {area.num_bytes:,} bytes of {area.name}", ()
                cells.is_set[at] = True
            yield from self.read(_whole(area), "the host")
        for area in self.areas:
            if not area.is_whole:
                continue
            cells, at = self._at(_whole(area))
            unread = cells.bytes_of(at, ~cells.was_read[at])
            if unread and not any(r == area.base_reg and area.start <= at < area.end for r, at in self._streams):
                text = f"{unread:,} of {area.num_bytes:,} bytes of {area.name} are never loaded"
                yield _unread(text, second_reads.get(unread, ()))
        for cells in self._cells:
            self._count_lost(cells.writer, np.where(cells.was_read, 0, cells.sizes))
        for store in self._stores:
            steps = (store.step,) if store.step else ()
            if store.lost and store.is_output:
                yield (
                    Kind.OUTPUT_LOST,
                    f"{store.lost:,} bytes of an output that {store.name} stores are overwritten before the program "
                    "ends",
                    steps,
                )
            elif store.lost and store.step:
                text = f"nothing loads {store.lost:,} bytes that {store.name} stores"
                yield _unread(text, second_reads.get(store.lost, ()), store)
            elif store.lost >= store.region.num_bytes:
                yield _unread(f"nothing loads what {store.name} holds", second_reads.get(store.lost, ()))

    def _count_lost(self, writer: NDArray[np.int32], num_bytes: NDArray[np.int64]) -> None:
        """Notes of what wrote some cells how many bytes of each nothing has read."""
        counts = np.bincount(writer, num_bytes)
        for number in np.flatnonzero(counts).tolist():
            if number:
                self._stores[number - 1].lost += int(counts[number])


def _element_bytes(step: Step, side: int) -> int:
    """Bytes of the elements that a transfer reads (0) or writes (1); 0 where it moves bytes or sets a constant."""
    insn = step.instruction
    return insn.itemsizes[side] if isinstance(insn, Transfer) and not (insn.linear or insn.clears()) else 0


def _unread(text: str, instead: Sequence[SecondRead], store: _Store | None = None) -> Found:
    """A finding about bytes that are never loaded, with the command that was probably meant to read them."""
    steps = (store.step,) if store and store.step else ()
    for found in instead:
        if store is None or store.could_be_meant_by(found.step):
            writer, first = found.writer, found.first
            reads = f"the {found.operand} of {found.step.name} has as many"
            had = f"which {writer.name} wrote and {first.name} had read before"
            return Kind.MISSING, f"{text}, and {reads}, {had}", (found.step, writer, *steps)
    return Kind.UNREAD, text, steps


def _whole(area: Area) -> Region:
    return Region(area.base_reg, area.start, (), (), area.num_bytes)

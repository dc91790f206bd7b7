"""Faults in GMEM, which the DMA alone touches, in order: addresses outside what the program has, stores to weights,
reads of nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.timeline import Step, Timeline
from npusim.insn.operand import Access
from npusim.mem.region import LMEM, Region
from npusim.state import NUM_BASE_REGS

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Area:
    """A range of GMEM that a program may use, by its base register. Areas may lie in one another; what any of them says
    holds."""

    name: str
    base_reg: int
    start: int
    """Bytes behind the base register."""
    num_bytes: int
    is_set: bool = False
    """Holds data before the program starts: weights, inputs."""
    is_writable: bool = True
    is_kept: bool = False
    """Is looked at when the program has ended: outputs."""
    is_whole: bool = False
    """All of it is there to be read, as of a weight."""

    @property
    def end(self) -> int:
        return self.start + self.num_bytes


@dataclass
class _Store:
    """Something that was written at one time, and how much of it was overwritten before anything read it."""

    step: Step | None
    """None for the host and for CPU routines."""
    name: str
    num_bytes: int
    is_output: bool
    lost: int = 0


class GlobalMemory:
    """What is known of each byte of GMEM as command buffers run one after the other; nothing where the program's areas
    are not known."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self.areas = tuple(areas)
        self.sizes = [max((a.end for a in self.areas if a.base_reg == reg), default=0) for reg in range(NUM_BASE_REGS)]
        self._is_set = [np.zeros(size, bool) for size in self.sizes]
        self._was_read = [np.zeros(size, bool) for size in self.sizes]
        self._writer = [np.zeros(size, np.int32) for size in self.sizes]
        """Which of `_stores` wrote a byte last, from 1 on."""
        self._stores: list[_Store] = []
        self._streams: list[tuple[int, int]] = []
        """Starts of compressed data: they end before the areas do that they lie in."""
        self._frozen = [_whole(a) for a in self.areas if a.num_bytes and not a.is_writable]
        self._kept = [a for a in self.areas if a.is_kept]
        for area in self.areas:
            if area.is_set and area.is_writable:
                self.set(_whole(area), None, area.name)
            elif area.is_set:
                _whole(area).view(self._is_set[area.base_reg])[...] = True

    def set(self, region: Region, step: Step | None, name: str) -> None:
        """Marks bytes as written: by a command, by a CPU routine or by the host."""
        writer, was_read = region.view(self._writer[region.memory]), region.view(self._was_read[region.memory])
        self._count_lost(writer[~was_read])
        is_output = any(
            a.base_reg == region.memory and a.start <= region.start and region.end <= a.end for a in self._kept
        )
        self._stores.append(_Store(step, name, region.num_bytes, is_output))
        region.view(self._is_set[region.memory])[...] = True
        was_read[...] = False
        writer[...] = len(self._stores)

    def read(self, region: Region) -> None:
        """Marks bytes as read, by whomever."""
        region.view(self._was_read[region.memory])[...] = True

    def check(self, timeline: Timeline) -> Iterator[Found]:
        """Every fault of one command buffer."""
        if not self.areas:
            return
        for step in timeline.order:
            for access in step.footprint.reads:
                for region in self._inside(access):
                    yield from self._load(step, access, region)
            for access in step.footprint.writes:
                for region in self._inside(access):
                    yield from self._store(step, region)
            yield from self._outside(step)

    def _inside(self, access: Access) -> Iterator[Region]:
        for region in access.regions:
            if region.memory != LMEM and region.start >= 0:
                if access.operand.at_most:
                    ends = [
                        a.end for a in self.areas if a.base_reg == region.memory and a.start <= region.start < a.end
                    ]
                    region = region._replace(run=min(region.run, min(ends, default=0) - region.start))
                if region.run > 0 and region.end <= self.sizes[region.memory]:
                    yield region

    def _outside(self, step: Step) -> Iterator[Found]:
        for access in step.footprint.reads + step.footprint.writes:
            for region in access.regions:
                if region.memory == LMEM:
                    continue
                end, size = region.start + 1 if access.operand.at_most else region.end, self.sizes[region.memory]
                if region.start < 0 or end > size:
                    text = (
                        f"the {access.name} of {step.name} is bytes {region.start:#x} to {end:#x} behind base "
                        f"register {region.memory}"
                    )
                    yield Kind.OUT_OF_RANGE, f"{text}, but the program has {size:#x} bytes there", (step,)

    def _load(self, step: Step, access: Access, region: Region) -> Iterator[Found]:
        if access.operand.at_most:
            self._streams.append((region.memory, region.start))
        else:
            is_set = region.view(self._is_set[region.memory])
            missing = is_set.size - np.count_nonzero(is_set)
            if missing:
                text = (
                    f"{step.name} loads {is_set.size:,} bytes from {self._where(region)}, of which nothing has "
                    f"stored {missing:,}"
                )
                yield Kind.PARTLY_UNSET if missing < is_set.size else Kind.UNINITIALISED, text, (step,)
        self.read(region)

    def _store(self, step: Step, region: Region) -> Iterator[Found]:
        if any(region.overlaps(frozen) for frozen in self._frozen):
            yield Kind.READ_ONLY, f"{step.name} stores to {self._where(region)}, which is only to be read", (step,)
        self.set(region, step, step.name)

    def _where(self, region: Region) -> str:
        names = [a.name for a in self.areas if a.base_reg == region.memory and a.start <= region.start < a.end]
        return f"base{region.memory}+{region.start:#x}" + (f" ({names[-1]})" if names else "")

    def unread(self) -> Iterator[Found]:
        """What nothing has read by the end of the program: bytes of a store or of a weight, or the whole of what the
        host gave."""
        for area in self._kept:
            self.read(_whole(area))
        for area in self.areas:
            unread = area.num_bytes - np.count_nonzero(self._was_read[area.base_reg][area.start : area.end])
            if (
                area.is_whole
                and unread
                and not any(r == area.base_reg and area.start <= at < area.end for r, at in self._streams)
            ):
                yield Kind.UNREAD, f"{unread:,} of {area.num_bytes:,} bytes of {area.name} are never loaded", ()
        for writer, was_read in zip(self._writer, self._was_read, strict=True):
            for at in range(0, writer.size, _CHUNK):
                self._count_lost(writer[at : at + _CHUNK][~was_read[at : at + _CHUNK]])
        for store in self._stores:
            steps = (store.step,) if store.step else ()
            if store.lost and store.is_output:
                yield (
                    Kind.OUTPUT_LOST,
                    f"{store.lost:,} bytes of an output that {store.name} stores are overwritten by the program's end",
                    steps,
                )
            elif store.lost and store.step:
                yield Kind.UNREAD, f"nothing loads {store.lost:,} bytes that {store.name} stores", steps
            elif store.lost >= store.num_bytes:
                yield Kind.UNREAD, f"nothing loads what {store.name} holds", ()

    def _count_lost(self, writers: NDArray[np.int32]) -> None:
        if writers.any():
            for number, count in enumerate(np.bincount(writers.reshape(-1))):
                if number and count:
                    self._stores[number - 1].lost += int(count)


def _whole(area: Area) -> Region:
    return Region(area.base_reg, area.start, (), (), area.num_bytes)

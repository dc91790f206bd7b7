"""Faults in GMEM, which the DMA alone touches, in order: addresses outside what the program has, stores to weights, reads of nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.timeline import Step, Timeline
from npusim.footprint import LMEM, Operand, Region
from npusim.state import NUM_BASE_REGS


@dataclass(frozen=True)
class Area:
    """A range of GMEM that a program may use, by its base register. Areas may lie in one another; what any of them says holds."""

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


class GlobalMemory:
    """What is known of each byte of GMEM as command buffers run one after the other; nothing where the program's areas are not known."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self.areas = tuple(areas)
        self.sizes = [max((a.end for a in self.areas if a.base_reg == reg), default=0) for reg in range(NUM_BASE_REGS)]
        self.is_set = [np.zeros(size, bool) for size in self.sizes]
        self.was_read = [np.zeros(size, bool) for size in self.sizes]
        self.writer = [np.zeros(size, np.int32) for size in self.sizes]
        """Index of the last store among `_stores`, from 1 on."""
        self._stores: list[Step] = []
        self._streams: list[tuple[int, int]] = []
        """Starts of compressed data: they end before the areas do that they lie in."""
        self._frozen = [Region(a.base_reg, a.start, (), (), a.num_bytes) for a in self.areas if a.num_bytes and not a.is_writable]
        for area in self.areas:
            if area.is_set:
                self.mark_set(area.base_reg, area.start, area.num_bytes)

    def mark_set(self, base_reg: int, start: int, num_bytes: int) -> None:
        """Somebody other than the TPU has written there: a CPU routine, or the host."""
        self.is_set[base_reg][start : start + num_bytes] = True

    def mark_read(self, base_reg: int, start: int, num_bytes: int) -> None:
        self.was_read[base_reg][start : start + num_bytes] = True

    def check(self, timeline: Timeline) -> Iterator[Found]:
        """Every fault of one command buffer."""
        if not self.areas:
            return
        for step in timeline.order:
            for operand in step.footprint.reads:
                for region in self._inside(operand):
                    yield from self._read(step, operand, region)
            for operand in step.footprint.writes:
                for region in self._inside(operand):
                    yield from self._write(step, operand, region)
            yield from self._outside(step)

    def _inside(self, operand: Operand) -> Iterator[Region]:
        for region in operand.regions:
            if region.memory != LMEM and region.start >= 0:
                size = self.sizes[region.memory]
                if operand.at_most and region.start < size:
                    region = region._replace(run=min(region.run, size - region.start))
                if region.end <= size:
                    yield region

    def _outside(self, step: Step) -> Iterator[Found]:
        for operand in step.footprint.reads + step.footprint.writes:
            for region in operand.regions:
                if region.memory == LMEM:
                    continue
                end, size = region.start + 1 if operand.at_most else region.end, self.sizes[region.memory]
                if region.start < 0 or end > size:
                    text = f"the {operand.name} of {step.name} is bytes {region.start:#x} to {end:#x} behind base register {region.memory}"
                    yield Kind.OUT_OF_RANGE, f"{text}, but the program has {size:#x} bytes there", (step,)

    def _read(self, step: Step, operand: Operand, region: Region) -> Iterator[Found]:
        if not operand.at_most:
            is_set = region.view(self.is_set[region.memory])
            missing = is_set.size - np.count_nonzero(is_set)
            if missing:
                text = f"{step.name} loads {is_set.size:,} bytes from {self._where(region)}, of which nothing has stored {missing:,}"
                yield Kind.PARTLY_UNSET if missing < is_set.size else Kind.UNINITIALISED, text, (step,)
        else:
            self._streams.append((region.memory, region.start))
        region.view(self.was_read[region.memory])[...] = True

    def _write(self, step: Step, operand: Operand, region: Region) -> Iterator[Found]:
        if any(region.overlaps(frozen) for frozen in self._frozen):
            yield Kind.READ_ONLY, f"{step.name} stores to {self._where(region)}, which is only to be read", (step,)
        self._stores.append(step)
        region.view(self.is_set[region.memory])[...] = True
        region.view(self.was_read[region.memory])[...] = False
        region.view(self.writer[region.memory])[...] = len(self._stores)

    def _where(self, region: Region) -> str:
        names = [a.name for a in self.areas if a.base_reg == region.memory and a.start <= region.start < a.end]
        return f"base{region.memory}+{region.start:#x}" + (f" ({names[-1]})" if names else "")

    def unused(self) -> Iterator[Found]:
        """Stores, or parts of weights, that nothing has read by the end of the program."""
        for area in self.areas:
            if area.is_kept:
                self.mark_read(area.base_reg, area.start, area.num_bytes)
        for area in self.areas:
            unread = area.num_bytes - np.count_nonzero(self.was_read[area.base_reg][area.start : area.end])
            if area.is_whole and unread and not any(r == area.base_reg and area.start <= at < area.end for r, at in self._streams):
                yield Kind.UNREAD, f"{unread:,} of {area.num_bytes:,} bytes of {area.name} are never loaded", ()
        for reg in range(NUM_BASE_REGS):
            yield from self._unread_stores(self.writer[reg], self.was_read[reg])

    def _unread_stores(self, writer: NDArray[np.int32], was_read: NDArray[np.bool_]) -> Iterator[Found]:
        for number, count in enumerate(np.bincount(writer[~was_read])):
            if number and count:
                step = self._stores[number - 1]
                yield Kind.UNREAD, f"nothing loads {count:,} bytes that {step.name} stores", (step,)

"""Who touched which part of LMEM last: what a command of one engine must wait for in the other.

Each engine runs its own commands in order, and only the TDMA touches GMEM; so conflicts between the engines are
conflicts in LMEM. A command waits for the last command of the other engine that wrote what it reads or writes, or read
what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from npusim.chip import Chip
from npusim.insn import Instruction
from npusim.insn.operand import Place, Role
from npusim.isa.opcodes import Engine
from npusim.mem.region import LMEM, Region
from npusim.mem.tensor import LocalTensor

_GRANULE = 16
Box = tuple[slice, slice]


class Touched(NamedTuple):
    """What a command touches in LMEM: boxes of lanes and of granules of a lane."""

    reads: tuple[Box, ...]
    writes: tuple[Box, ...]


def touched_by(instruction: Instruction) -> Touched:
    """What covers the operands of `instruction`."""
    reads: list[Box] = []
    writes: list[Box] = []
    for operand, places in instruction.touched():
        for place in places:
            (writes if operand.role is Role.WRITE else reads).extend(_boxes(instruction.chip, place))
    return Touched(tuple(reads), tuple(writes))


class HazardTracker:
    """Ids of the last reads and writes of every 16 bytes of LMEM by each engine."""

    def __init__(self, chip: Chip) -> None:
        shape = (2, chip.num_lanes, -(-chip.lmem_bytes // _GRANULE))
        self._last = {engine: np.zeros(shape, np.int32) for engine in (Engine.TIU, Engine.TDMA)}

    def forget(self) -> None:
        """Ids start again: everything before is done."""
        for table in self._last.values():
            table.fill(0)

    def needed(self, engine: Engine, touched: Touched) -> int:
        """Id of the last command of the other engine that must be done before; 0 for none."""
        other = self._last[Engine.TDMA if engine == Engine.TIU else Engine.TIU]
        found = [other[1][box].max() for box in touched.reads]
        found += [other[:, lanes, granules].max() for lanes, granules in touched.writes]
        return int(max(found, default=0))

    def record(self, engine: Engine, command_id: int, touched: Touched) -> None:
        for kind, boxes in enumerate(touched):
            for box in boxes:
                self._last[engine][kind][box] = command_id


def _boxes(chip: Chip, place: Place) -> Iterator[Box]:
    """What covers a place in LMEM; nothing for one in GMEM."""
    lanes, lane_bytes = chip.num_lanes, chip.lmem_bytes
    if isinstance(place, LocalTensor):
        lane0, start, end = place.reach(chip)
        last = lane0 + place.shape[1]
        yield slice(lane0, last) if last <= lanes else slice(None), _granules(start, end)
    elif isinstance(place, Region) and place.memory == LMEM:
        for lane in range(place.start // lane_bytes, -(-place.end // lane_bytes)):
            start, end = place.start - lane * lane_bytes, place.end - lane * lane_bytes
            yield slice(lane, lane + 1), _granules(max(start, 0), min(end, lane_bytes))


def _granules(start: int, end: int) -> slice:
    return slice(start // _GRANULE, -(-end // _GRANULE))

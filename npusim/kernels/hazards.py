"""Who touched which part of LMEM last: what a command of one engine must wait for in the other.

Each engine runs its own commands in order, and only the TDMA touches GMEM; so conflicts between the engines are
conflicts in LMEM. A command waits for the last command of the other engine that wrote what it reads or writes, or read
what it writes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npusim.chip import Chip
from npusim.insn.operand import Access, Footprint
from npusim.isa.opcodes import Engine
from npusim.mem.region import LMEM

_GRANULE = 16


class HazardTracker:
    """Ids of the last reads and writes of every 16 bytes of LMEM by each engine."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        shape = (2, chip.num_lanes, -(-chip.lmem_bytes // _GRANULE))
        self._last = {engine: np.zeros(shape, np.int32) for engine in (Engine.TIU, Engine.TDMA)}

    def forget(self) -> None:
        """Ids start again: everything before is done."""
        for table in self._last.values():
            table.fill(0)

    def needed(self, engine: Engine, touched: Footprint) -> int:
        """Id of the last command of the other engine that must be done before; 0 for none."""
        other = self._last[Engine.TDMA if engine == Engine.TIU else Engine.TIU]
        found = [other[(slice(1, 2), *box)].max() for box in self._boxes(touched.reads)]
        found += [other[(slice(None), *box)].max() for box in self._boxes(touched.writes)]
        return int(max(found, default=0))

    def record(self, engine: Engine, command_id: int, touched: Footprint) -> None:
        table = self._last[engine]
        for kind, accesses in enumerate((touched.reads, touched.writes)):
            for box in self._boxes(accesses):
                table[(kind, *box)] = command_id

    def _boxes(self, accesses: tuple[Access, ...]) -> Iterator[tuple[slice, slice]]:
        """Lanes and granules of a lane that cover what operands touch in LMEM."""
        lanes, lane_bytes = self._chip.num_lanes, self._chip.lmem_bytes
        for access in accesses:
            for tensor in access.tensors:
                lane0, start, end = tensor.reach(self._chip)
                last = lane0 + tensor.shape[1]
                yield slice(lane0, last) if last <= lanes else slice(None), _granules(start, end)
            for region in () if access.tensors else access.regions:
                for lane in (
                    range(region.start // lane_bytes, -(-region.end // lane_bytes)) if region.memory == LMEM else ()
                ):
                    start, end = region.start - lane * lane_bytes, region.end - lane * lane_bytes
                    yield slice(lane, lane + 1), _granules(max(start, 0), min(end, lane_bytes))


def _granules(start: int, end: int) -> slice:
    return slice(start // _GRANULE, -(-end // _GRANULE))

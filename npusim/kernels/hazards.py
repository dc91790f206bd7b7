"""Who touched which part of LMEM last: what a command of one engine must wait for in the other.

Each engine runs its own commands in order, and only the TDMA touches GMEM; so conflicts between the engines are
conflicts in LMEM. A command waits for the last command of the other engine that wrote what it reads or writes, or read
what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npusim.chip import Chip
from npusim.isa.opcodes import Engine
from npusim.kernels.tensors import Tl

_GRANULE = 16


@dataclass(frozen=True)
class Span:
    """Bytes [start, stop) of lanes [lane0, lane1)."""

    lane0: int
    lane1: int
    start: int
    stop: int


def span_of(chip: Chip, tensor: Tl, extra: int = 0) -> Span:
    """What `tensor` covers at most, and `extra` bytes behind it."""
    lane0, offset = divmod(tensor.addr, chip.lmem_bytes)
    n, c, h, w = tensor.shape
    turns = -(-(lane0 + c) // chip.num_lanes)
    n_str, c_str, h_str, w_str = tensor.stride
    end = offset + (n - 1) * n_str + (turns - 1) * c_str + (h - 1) * h_str + (w - 1) * w_str + tensor.fmt.itemsize
    lanes = (lane0, lane0 + c) if turns == 1 else (0, chip.num_lanes)
    return Span(*lanes, offset, end + extra)


class HazardTracker:
    """Ids of the last reads and writes of every 16 bytes of LMEM by each engine."""

    def __init__(self, chip: Chip) -> None:
        shape = (2, chip.num_lanes, -(-chip.lmem_bytes // _GRANULE))
        self._last = {engine: np.zeros(shape, np.int32) for engine in (Engine.TIU, Engine.TDMA)}

    def forget(self) -> None:
        """Ids start again: everything before is done."""
        for table in self._last.values():
            table.fill(0)

    def needed(self, engine: Engine, reads: Sequence[Span], writes: Sequence[Span]) -> int:
        """Id of the last command of the other engine that must be done before; 0 for none."""
        other = self._last[Engine.TDMA if engine == Engine.TIU else Engine.TIU]
        found = [other[(slice(1, 2), *_cells(span))].max(initial=0) for span in reads]
        found += [other[(slice(None), *_cells(span))].max(initial=0) for span in writes]
        return int(max(found, default=0))

    def record(self, engine: Engine, command_id: int, reads: Sequence[Span], writes: Sequence[Span]) -> None:
        table = self._last[engine]
        for kind, spans in enumerate((reads, writes)):
            for span in spans:
                table[(kind, *_cells(span))] = command_id


def _cells(span: Span) -> tuple[slice, slice]:
    return slice(span.lane0, span.lane1), slice(span.start // _GRANULE, -(-span.stop // _GRANULE))

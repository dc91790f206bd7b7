"""Which bytes of a lane's LMEM each command touches: one span for each operand, the same for all lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npusim.arrays import Ints
from npusim.insn import TDMA_OPERANDS, TIU_OPERANDS, Instruction
from npusim.insn.operand import lmem_span
from npusim.timing.distinct import Distinct


@dataclass(frozen=True)
class LmemUse:
    """Spans [start, end) of byte offsets within a lane; (0, 0) where a command does not have that operand."""

    tiu: Ints
    """Shape (TIU commands, TIU_OPERANDS, 2)."""
    tdma: Ints
    """Shape (TDMA commands, TDMA_OPERANDS, 2)."""
    lanes: int
    """The largest number of lanes that an operand uses, counted from lane 0. It is more than the chip has if there are
    more channels than lanes."""

    @property
    def high_water(self) -> int:
        """Highest end of any span, in bytes of a lane."""
        return int(max(self.tiu[..., 1].max(initial=0), self.tdma[..., 1].max(initial=0)))

    @classmethod
    def joined(cls, parts: Sequence[LmemUse]) -> LmemUse:
        return cls(
            np.concatenate([p.tiu for p in parts]),
            np.concatenate([p.tdma for p in parts]),
            max(p.lanes for p in parts),
        )


def lmem_use(tiu: Distinct, tdma: Distinct) -> LmemUse:
    """LMEM that the commands of both engines touch."""
    tiu_spans, tiu_lanes = _spans(tiu, TIU_OPERANDS)
    tdma_spans, tdma_lanes = _spans(tdma, TDMA_OPERANDS)
    return LmemUse(tiu_spans, tdma_spans, max(tiu_lanes, tdma_lanes))


def _spans(commands: Distinct, names: tuple[str, ...]) -> tuple[Ints, int]:
    """(spans, most lanes) of one engine's commands. Spans of one geometry differ only by the offsets of the
    operands."""
    lane = commands.chip.lmem_bytes
    found = [_spans_of(insn, names) for insn in commands.instructions]
    spans = np.array([spans for spans, _ in found], np.int64).reshape(-1, len(names), 2)
    offsets = commands.offsets[:, :, None]
    used = spans[..., 1:] > 0
    relative = np.where(used, spans - offsets[commands.first], 0)
    result = np.where(used[commands.inverse], relative[commands.inverse] + offsets, 0)
    # An operand that runs over the end of a lane does not move with its offset: such commands are computed one by one.
    for place in np.flatnonzero((result > lane).any(axis=(1, 2))).tolist():
        result[place], lanes = _spans_of(commands.instruction(place), names)
        found.append(([], lanes))
    return result, max((lanes for _, lanes in found), default=0)


def _spans_of(insn: Instruction, names: tuple[str, ...]) -> tuple[list[list[int]], int]:
    """One span for each of `names`, and the most lanes of any of them."""
    spans = [[0, 0] for _ in names]
    most = 0
    for operand, places in insn.touched():
        start, end, lanes = lmem_span(insn.chip, operand, places)
        if end:
            span = spans[names.index(operand.name)]
            span[:] = (min(start, span[0]), max(end, span[1])) if span[1] else (start, end)
            most = max(most, lanes)
    return spans, most

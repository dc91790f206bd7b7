"""`Workload`: what a program asks of both engines. It holds no time, so one workload is timed on many boards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.isa.layout import Columns
from npusim.isa.regs import tdma_columns, tiu_columns
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import Cvimodel
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.dmabuf import LAST_ID
from npusim.program.model import cmdbufs_of_model
from npusim.timing.banks import meets_tiu
from npusim.timing.distinct import distinct_tdma, distinct_tiu
from npusim.timing.schedule import Plan, make_plan
from npusim.timing.spans import LmemUse, lmem_use
from npusim.timing.tdma_work import TdmaWork, tdma_work
from npusim.timing.tiu_work import TiuWork, tiu_work

Ints = NDArray[np.int64]
_T = TypeVar("_T", TiuWork, TdmaWork)


@dataclass(frozen=True)
class Workload:
    """Commands of one program, TIU and TDMA each in program order."""

    chip: Chip
    """What the program was compiled for."""
    tiu: TiuWork
    tdma: TdmaWork
    index: tuple[Ints, Ints]
    """Place of every TIU and TDMA command among all commands of its command buffer."""
    routine: tuple[Ints, Ints]
    """Which command buffer of the program each is from."""
    cmd_id: tuple[Ints, Ints]
    layer: tuple[Ints, Ints]
    """Layer numbers as the compiler wrote them (`layer_info`, `layer_ID`)."""
    needs: tuple[Ints, Ints]
    """How many commands of the other engine must have ended before each starts."""
    lmem: LmemUse
    """LMEM that each command touches."""

    @property
    def num_commands(self) -> int:
        return len(self.tiu) + len(self.tdma)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of useful results."""
        return int(self.tiu.macs.sum())

    @property
    def lmem_peak_bytes(self) -> int:
        """Highest LMEM offset in use on any lane, times the number of lanes."""
        return self.lmem.high_water * self.chip.num_lanes

    def conflicts(self, chip: Chip) -> NDArray[np.bool_]:
        """Which TDMA commands meet the TIU in a bank of `chip`'s LMEM; kept for the next board of that kind."""
        banks = (chip.lmem_bytes, chip.num_lmem_banks)
        if banks not in self._conflicts:
            self._conflicts[banks] = meets_tiu(self.lmem, self.needs, chip)
        return self._conflicts[banks]

    @cached_property
    def _conflicts(self) -> dict[tuple[int, int], NDArray[np.bool_]]:
        return {}

    @cached_property
    def plan(self) -> Plan:
        """The order of waits, found once. Raises Deadlock."""
        return make_plan(*self.needs)


def workload_of_cmdbuf(cmdbuf: Cmdbuf) -> Workload:
    """The workload of a parsed command buffer. Raises IllegalInstruction for a command that is no instruction."""
    chip = cmdbuf.chip
    tiu, tdma = tiu_columns(chip, cmdbuf.tiu), tdma_columns(chip, cmdbuf.tdma)
    index = (cmdbuf.tiu_index, cmdbuf.tdma_index)
    kinds = distinct_tiu(cmdbuf, tiu), distinct_tdma(cmdbuf, tdma)
    work = tiu_work(kinds[0], tiu), tdma_work(kinds[1], tdma)
    return Workload(
        chip=chip,
        tiu=work[0],
        tdma=work[1],
        index=index,
        routine=(np.zeros_like(index[0]), np.zeros_like(index[1])),
        cmd_id=(tiu["cmd_id_tpu"], tdma["cmd_id"]),
        layer=(tiu["layer_info"], tdma["layer_ID"]),
        needs=_needs(tiu, tdma, index),
        lmem=lmem_use(*kinds),
    )


def workload_of_bytes(chip: Chip, data: bytes) -> Workload:
    """The workload of a raw command buffer."""
    return workload_of_cmdbuf(parse_cmdbuf(chip, data))


def workload_of_model(model: Cvimodel | str | Path, program: int = 0, *, verify_md5: bool = True) -> Workload:
    """The workload of all TPU routines of a .cvimodel's `program`, one behind the other. CPU routines take no part.

    Raises UsageError where `program` does not exist or has nothing for the TPU.
    """
    if not isinstance(model, Cvimodel):
        model = load_cvimodel(model, verify_md5=verify_md5)
    return concatenate([workload_of_cmdbuf(cmdbuf) for cmdbuf in cmdbufs_of_model(model, program)])


def concatenate(parts: Sequence[Workload]) -> Workload:
    """One workload that runs `parts` in turn; each waits for both engines to have finished the one before."""
    if len(parts) == 1:
        return parts[0]
    done, needs = [0, 0], ([], [])  # type: ignore[var-annotated]
    for part in parts:
        sizes = len(part.tiu), len(part.tdma)
        for e in (0, 1):
            needs[e].append(part.needs[e] + done[1 - e])
        done = [done[0] + sizes[0], done[1] + sizes[1]]
    both = (0, 1)

    def joined(name: str) -> tuple[Ints, Ints]:
        return tuple(np.concatenate([getattr(p, name)[e] for p in parts]) for e in both)  # type: ignore[return-value]

    return Workload(
        chip=parts[0].chip,
        tiu=_joined(TiuWork, [p.tiu for p in parts]),
        tdma=_joined(TdmaWork, [p.tdma for p in parts]),
        index=joined("index"),
        routine=tuple(np.concatenate([np.full(len(p.index[e]), i) for i, p in enumerate(parts)]) for e in both),  # type: ignore[arg-type]
        cmd_id=joined("cmd_id"),
        layer=joined("layer"),
        needs=tuple(np.concatenate(needs[e]) for e in both),  # type: ignore[arg-type]
        lmem=LmemUse.joined([p.lmem for p in parts]),
    )


def _joined(kind: type[_T], parts: Sequence[_T]) -> _T:
    return kind(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(kind)})


def _needs(tiu: Columns, tdma: Columns, index: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """From ids to counts: how many commands of the other engine come before each command may start.

    Ids rise from 1 in each engine. Behind a command with the last id a new segment begins: everything before has ended
    and both engines count anew (the driver resets them; sophgo/cviruntime converts command buffers to one segment
    each)."""
    ids = (tiu["cmd_id_tpu"], tdma["cmd_id"])
    waits = (np.where(tiu["cmd_id_en"] == 1, tiu["cmd_id_gdma"], 0), tdma["wait_id_tpu"])
    ends = np.concatenate([index[e][ids[e] == LAST_ID] for e in (0, 1)])
    bounds = [
        np.searchsorted(index[e], np.append(np.sort(ends), np.iinfo(np.int64).max), side="right").tolist()
        for e in (0, 1)
    ]
    needs = tuple(np.zeros_like(w) for w in waits)
    begin = (0, 0)
    for end in zip(*bounds, strict=True):
        for e in (0, 1):
            mine, other = slice(begin[e], end[e]), slice(begin[1 - e], end[1 - e])
            needs[e][mine] = begin[1 - e] + _counts(ids[1 - e][other], waits[e][mine])
        begin = end
    return needs  # type: ignore[return-value]


def _counts(ids: Ints, waits: Ints) -> Ints:
    """Commands up to the first one whose id is at least what is waited for; one more than there are where none is."""
    return np.where(waits > 0, np.searchsorted(np.maximum.accumulate(ids), waits) + 1, 0)

"""`Workload`: how much work a program is for both engines. It holds no times, so one workload serves many boards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Ints
from npusim.chip import Chip
from npusim.isa.opcodes import TDMA, TIU, PerEngine
from npusim.isa.regs import tdma_columns, tiu_columns
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import Cvimodel
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.model import cmdbufs_of_model
from npusim.program.waits import waits_of
from npusim.timing.banks import meets_tiu
from npusim.timing.distinct import distinct_tdma, distinct_tiu
from npusim.timing.schedule import Blocks, find_blocks
from npusim.timing.spans import LmemUse, lmem_use
from npusim.timing.tdma_work import TdmaWork, tdma_work
from npusim.timing.tiu_work import TiuWork, tiu_work

_T = TypeVar("_T", TiuWork, TdmaWork)


@dataclass(frozen=True)
class Workload:
    """Commands of one program, TIU and TDMA each in program order."""

    chip: Chip
    """The chip that the program was compiled for."""
    tiu: TiuWork
    tdma: TdmaWork
    index: PerEngine[Ints]
    """Place of every TIU and TDMA command among all commands of its command buffer."""
    routine: PerEngine[Ints]
    """Which command buffer of the program each is from."""
    cmd_id: PerEngine[Ints]
    layer: PerEngine[Ints]
    """Layer numbers as the compiler wrote them (`layer_info`, `layer_ID`)."""
    needs: PerEngine[Ints]
    """How many commands of the other engine must have ended before each starts (`program.waits`)."""
    waits_for_id: PerEngine[NDArray[np.bool_]]
    """Which commands wait because of a wait id. Others wait only because ids start over in front of them."""
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
        """Which TDMA commands may use an LMEM bank while the TIU uses it (`timing.banks`), with the banks of `chip`.
        The answer is kept for the next board with the same banks."""
        banks = (chip.lmem_bytes, chip.num_lmem_banks)
        if banks not in self._conflicts:
            self._conflicts[banks] = meets_tiu(self.lmem, self.needs, chip)
        return self._conflicts[banks]

    @cached_property
    def _conflicts(self) -> dict[tuple[int, int], NDArray[np.bool_]]:
        return {}

    @cached_property
    def blocks(self) -> Blocks:
        """The blocks of the schedule, found once. Raises Deadlock."""
        return find_blocks(self.needs)


def workload_of_cmdbuf(cmdbuf: Cmdbuf) -> Workload:
    """The workload of a parsed command buffer. Raises IllegalInstruction for a command that is not a valid
    instruction."""
    chip = cmdbuf.chip
    tiu, tdma = tiu_columns(chip, cmdbuf.tiu), tdma_columns(chip, cmdbuf.tdma)
    waits = waits_of(cmdbuf)
    kinds = distinct_tiu(cmdbuf, tiu), distinct_tdma(cmdbuf, tdma)
    return Workload(
        chip=chip,
        tiu=tiu_work(kinds[TIU], tiu),
        tdma=tdma_work(kinds[TDMA], tdma),
        index=cmdbuf.index,
        routine=PerEngine(np.zeros_like(cmdbuf.tiu_index), np.zeros_like(cmdbuf.tdma_index)),
        cmd_id=waits.ids,
        layer=PerEngine(tiu["layer_info"], tdma["layer_ID"]),
        needs=waits.needs,
        waits_for_id=PerEngine(*(wanted > 0 for wanted in waits.wanted)),
        lmem=lmem_use(*kinds),
    )


def workload_of_bytes(chip: Chip, data: bytes) -> Workload:
    """The workload of a raw command buffer."""
    return workload_of_cmdbuf(parse_cmdbuf(chip, data))


def workload_of_model(model: Cvimodel | str | Path, program: int = 0, *, verify_md5: bool = True) -> Workload:
    """The workload of all TPU routines of program number `program` of a .cvimodel, one after the other. CPU routines
    are left out (`npusim.timing.host` times them). Raises UsageError if there is no such program."""
    if not isinstance(model, Cvimodel):
        model = load_cvimodel(model, verify_md5=verify_md5)
    return concatenate([workload_of_cmdbuf(cmdbuf) for cmdbuf in cmdbufs_of_model(model, program)])


def concatenate(parts: Sequence[Workload]) -> Workload:
    """One workload that runs `parts` in turn. Each part waits until both engines have finished the part before."""
    if len(parts) == 1:
        return parts[0]
    done = PerEngine(*(np.cumsum([0, *(len(p.index[e]) for p in parts)]) for e in (TIU, TDMA)))

    def joined(name: str) -> PerEngine[NDArray[Any]]:
        return PerEngine(*(np.concatenate([getattr(p, name)[e] for p in parts]) for e in (TIU, TDMA)))

    return Workload(
        chip=parts[0].chip,
        tiu=_joined(TiuWork, [p.tiu for p in parts]),
        tdma=_joined(TdmaWork, [p.tdma for p in parts]),
        index=joined("index"),
        routine=PerEngine(*(np.repeat(np.arange(len(parts)), np.diff(done[e])) for e in (TIU, TDMA))),
        cmd_id=joined("cmd_id"),
        layer=joined("layer"),
        needs=PerEngine(
            *(np.concatenate([p.needs[e] + done.other(e)[i] for i, p in enumerate(parts)]) for e in (TIU, TDMA))
        ),
        waits_for_id=joined("waits_for_id"),
        lmem=LmemUse.joined([p.lmem for p in parts]),
    )


def _joined(kind: type[_T], parts: Sequence[_T]) -> _T:
    return kind(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(kind)})

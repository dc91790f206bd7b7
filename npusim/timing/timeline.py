"""`Timeline`: when every command of a workload starts and ends on a board, and figures that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Ints
from npusim.board import Board
from npusim.errors import UsageError
from npusim.isa.opcodes import TDMA, TIU, PerEngine
from npusim.timing import schedule
from npusim.timing.bursts import BEAT_BYTES
from npusim.timing.constants import Costs
from npusim.timing.cost import tdma_ps, tiu_cycles
from npusim.timing.workload import Workload

PS_PER_MS = 1e9
MAX_PS = 1e18


@dataclass(frozen=True)
class Timeline:
    """Times are whole picoseconds from the program's start, since DRAM and TPU have different clocks.

    The i-th TIU command of `workload` starts at `start_ps[TIU][i]`, the i-th TDMA command at `start_ps[TDMA][i]`.
    """

    workload: Workload
    board: Board
    costs: Costs
    start_ps: PerEngine[Ints]
    end_ps: PerEngine[Ints]

    @cached_property
    def ps(self) -> int:
        """From the first start to the last end, in picoseconds. The PMU calls this inference time."""
        return int(max((ends.max() for ends in self.end_ps if len(ends)), default=0)) - self.first_ps

    @cached_property
    def first_ps(self) -> int:
        """Start of the first command."""
        return int(min((starts.min() for starts in self.start_ps if len(starts)), default=0))

    @property
    def ms(self) -> float:
        return self.ps / PS_PER_MS

    @property
    def cycles(self) -> float:
        """`ps` in cycles of the TPU's clock."""
        return self.ps / self.board.tick_ps

    def start_cycles(self, engine: int) -> NDArray[np.float64]:
        """Start of each command of `engine` (TIU or TDMA) in TPU cycles."""
        return self.start_ps[engine] / self.board.tick_ps

    def end_cycles(self, engine: int) -> NDArray[np.float64]:
        return self.end_ps[engine] / self.board.tick_ps

    def busy_ps(self, engine: int) -> int:
        """How long `engine` (TIU or TDMA) works, in picoseconds."""
        return int((self.end_ps[engine] - self.start_ps[engine]).sum())

    @property
    def tiu_busy(self) -> float:
        """Share of the time in which the TIU works, 0 to 1."""
        return self.busy_ps(TIU) / max(self.ps, 1)

    @property
    def tdma_busy(self) -> float:
        """Share of the time in which the TDMA works, 0 to 1."""
        return self.busy_ps(TDMA) / max(self.ps, 1)

    @property
    def overlap(self) -> float:
        """Share of the time in which both engines work, 0 to 1."""
        return self.overlap_ps / max(self.ps, 1)

    @cached_property
    def overlap_ps(self) -> int:
        """How long both engines work at the same time, in picoseconds."""
        times = np.concatenate([*self.start_ps, *self.end_ps])
        engine = np.concatenate([np.full(len(self.start_ps[e]), 1 + 2 * e) for e in (TIU, TDMA)])
        order = np.argsort(times, kind="stable")
        change = np.concatenate([engine, -engine])[order]
        busy = np.cumsum(change)
        return int(np.diff(times[order])[busy[:-1] == 4].sum())

    def dram_bytes(self, side: str) -> Ints:
        """Bytes of DRAM that each TDMA command reads or writes (`side` is "read" or "write"), in whole 16-byte beats as
        the PMU counts them."""
        return self._dram_bytes[side]

    @cached_property
    def _dram_bytes(self) -> dict[str, Ints]:
        work = self.workload.tdma
        scale = np.where(work.compressed, self.costs.compression, 1.0)
        sides = {"read": work.read_beats, "write": work.write_beats}
        return {side: np.rint(beats * scale).astype(np.int64) * BEAT_BYTES for side, beats in sides.items()}

    @cached_property
    def moved_bytes(self) -> Ints:
        """Bytes of DRAM that each TDMA command reads and writes together."""
        return self.dram_bytes("read") + self.dram_bytes("write")

    @property
    def dram_read_bytes(self) -> int:
        return int(self.dram_bytes("read").sum())

    @property
    def dram_write_bytes(self) -> int:
        return int(self.dram_bytes("write").sum())

    @property
    def dram_gbps(self) -> float:
        """Mean DRAM bandwidth over the whole program, in GB/s."""
        return int(self.moved_bytes.sum()) * 1000 / max(self.ps, 1)

    @property
    def mac_utilisation(self) -> float:
        """Useful multiply-accumulates, as a share of what an int8 convolution without stalls could do in the time, 0 to
        1."""
        return self.workload.macs / max(self.board.peak_macs_per_s * self.ps * 1e-12, 1e-9)

    @property
    def lmem_peak_bytes(self) -> int:
        return self.workload.lmem_peak_bytes

    @property
    def summary(self) -> str:
        """How long it takes and how busy the engines are, in a few words."""
        time = f"{self.ms:.1f} ms" if self.ms >= 1 else f"{1000 * self.ms:.1f} µs"
        return f"{time}, TIU {100 * self.tiu_busy:.0f} %, TDMA {100 * self.tdma_busy:.0f} %"

    def __repr__(self) -> str:
        return f"<Timeline of {self.workload.num_commands:,} commands on {self.board.name}: {self.summary}>"


def time_workload(workload: Workload, board: Board, costs: Costs | None = None) -> Timeline:
    """The timeline of `workload` on `board`. Raises UsageError if the program cannot run there, Deadlock if it never
    ends."""
    require_runs(workload, board)
    costs = costs or Costs()
    tick = board.tick_ps
    conflicts = workload.conflicts(board.chip)
    tiu, tdma = tiu_cycles(workload.tiu, board, costs) * tick, tdma_ps(workload.tdma, board, costs, conflicts)
    if float(tiu.sum()) + float(tdma.sum()) > MAX_PS:
        raise UsageError(
            f"the program would take more than {MAX_PS / PS_PER_MS / 3.6e6:.0f} hours on {board.title}, the most that "
            "can be timed; give a smaller program or a faster board"
        )
    durations = PerEngine(np.rint(tiu).astype(np.int64), np.rint(tdma).astype(np.int64))
    sync = PerEngine(round(costs.sync_tiu * tick), round(costs.sync_tdma * tick))
    starts = schedule.run(workload.blocks, durations, sync, round(costs.issue_gap * tick), _hidden(workload, durations))
    ends = PerEngine(starts.tiu + durations.tiu, starts.tdma + durations.tdma)
    return Timeline(workload, board, costs, starts, ends)


def _hidden(workload: Workload, durations: PerEngine[Ints]) -> Ints | None:
    """Command pre-execution: how long before the end of the transfer that it waits for each TIU command may start, in
    picoseconds.

    Both commands have to ask for it. The TIU command starts when the first channel has arrived. It cannot end before
    the last channel has arrived and was worked on, as long as any other. None if no command asks for it, as in all
    compiled programs seen so far."""
    tiu, tdma = workload.tiu, workload.tdma
    if not (tiu.starts_early.any() and tdma.by_channel.any()):
        return None
    awaited = np.maximum(workload.needs.tiu - 1, 0)
    channels = np.maximum(np.minimum(tiu.channels, tdma.channels[awaited]), 1)
    together = np.minimum(durations.tiu, durations.tdma[awaited])
    allowed = tiu.starts_early & tdma.by_channel[awaited] & workload.waits_for_id.tiu
    return np.where(allowed, together - -(-together // channels), 0)


def require_runs(workload: Workload, board: Board) -> None:
    """Raises UsageError if `workload` was compiled for another chip than the board's, or would compute something else
    on this variant of the chip.

    An LMEM address is lane * bytes of a lane + offset, and channel j of a tensor is on lane j modulo lanes. So a lane
    may have fewer bytes if the program does not use them, and there may be another number of lanes if no tensor has
    more channels than lanes."""
    chip, target = workload.chip, board.chip
    if chip.name != target.name:
        raise UsageError(
            f"the program was compiled for {chip.name}, but {board.title} has a {target.name}; compile it for that chip"
        )
    if target.num_lanes != chip.num_lanes and workload.lmem.lanes > min(chip.num_lanes, target.num_lanes):
        raise UsageError(
            f"the program was compiled for {chip.num_lanes} lanes and has tensors with more channels, which would lie "
            f"elsewhere with {target.num_lanes} lanes; compile it for a chip with that many lanes"
        )
    if workload.lmem.high_water > target.lmem_bytes:
        raise UsageError(
            f"the program uses {workload.lmem.high_water} bytes of each lane's LMEM, but {target.lmem_bytes} are all "
            f"that {board.title} has; compile it with smaller tiles"
        )

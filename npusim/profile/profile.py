"""`Profile`: what follows from a timeline. Each part is computed when it is first used, and kept. `profile_program`
makes a Profile of a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npusim.board import Board, board_named, default_board
from npusim.kernels.program import Program
from npusim.loader.cvimodel_types import Cvimodel
from npusim.profile.attribution import LayerRuns, Pieces, layer_runs, pieces_of
from npusim.profile.gmem import RegionTraffic, regions_of
from npusim.profile.names import TensorNames, names_of
from npusim.profile.notebook import layers_table
from npusim.profile.pmu import PmuRecords
from npusim.profile.pmu_predict import records_of
from npusim.profile.pressure import DramCurve, LmemCurve, dram_curve, lmem_curve
from npusim.profile.roofline import Roofline, roofline_of
from npusim.profile.shares import TimeShare, instruction_shares, layer_shares, tensor_shares
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.open import ProgramFile, open_program
from npusim.timing.host import HostTime, host_time
from npusim.timing.timeline import PS_PER_MS, Timeline, time_workload
from npusim.timing.workload import concatenate, workload_of_cmdbuf


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """Where the time of one program on one board goes. Text, JSON, trace, HTML page and PMU files are written from this
    object, and none of them computes anything from the timeline itself."""

    name: str
    """Name of the program; that of its file, if it has one."""
    timeline: Timeline
    cmdbufs: tuple[Cmdbuf, ...]
    """The command buffers of `timeline.workload`, in turn."""
    model: Cvimodel | None = None
    """The .cvimodel that holds the program. It has the sizes of the regions of GMEM and the names of tensors."""
    program: int = 0
    """Number of the program in `model`."""

    @cached_property
    def pieces(self) -> Pieces:
        """The time, cut into pieces that belong to one command each."""
        return pieces_of(self.timeline)

    @cached_property
    def layers(self) -> tuple[TimeShare, ...]:
        """The time and work of each layer, in the order in which the layers begin."""
        return layer_shares(self.timeline, self.pieces, self.names)

    @cached_property
    def tensors(self) -> tuple[TimeShare, ...]:
        """The time and work for each tensor that the file names, in the order in which they begin. Empty without a
        .cvimodel."""
        return () if self.names is None else tensor_shares(self.timeline, self.pieces, self.names)

    @cached_property
    def names(self) -> TensorNames | None:
        """The tensor that each command works for; None without a .cvimodel."""
        if self.model is None:
            return None
        return names_of(self.timeline.workload, self.cmdbufs, self.model, self.program)

    @cached_property
    def instructions(self) -> tuple[TimeShare, ...]:
        """The time and work of each kind of instruction, the longest first."""
        return instruction_shares(self.timeline, self.pieces)

    @cached_property
    def layer_runs(self) -> LayerRuns:
        """When the program works on each layer."""
        return layer_runs(self.timeline, self.pieces)

    @cached_property
    def dram(self) -> DramCurve:
        """DRAM bandwidth over time."""
        return dram_curve(self.timeline)

    @cached_property
    def lmem(self) -> LmemCurve:
        """Bytes of LMEM whose contents are still needed, over time."""
        return lmem_curve(self.timeline)

    @cached_property
    def host(self) -> HostTime:
        """The parts of a forward beside the TPU's time: CPU routines and the runtime. They are modelled."""
        return host_time(self.timeline.board, self.model, self.program)

    @property
    def total_ms(self) -> float | None:
        """Milliseconds of one call of the runtime's forward: TPU, CPU routines and runtime. None if the time of a CPU
        routine is not known."""
        if self.host.cpu_ps is None:
            return None
        return (self.timeline.ps + self.host.cpu_ps + self.host.runtime_ps) / PS_PER_MS

    @cached_property
    def other_clock(self) -> Timeline | None:
        """The same program at the board's other TPU clock. None if the board runs at one clock only."""
        board = self.timeline.board
        if board.other_mhz is None:
            return None
        other = board.variant(clock_mhz=board.other_mhz)
        return time_workload(self.timeline.workload, other, self.timeline.costs)

    @cached_property
    def records(self) -> PmuRecords:
        """The records that the chip's performance monitor would write."""
        return records_of(self.timeline, self.cmdbufs)

    @cached_property
    def gmem(self) -> tuple[RegionTraffic, ...]:
        """Bytes that the program reads and writes in each region of GMEM."""
        return regions_of(self.timeline, self.cmdbufs, self.model, self.program)

    @cached_property
    def roofline(self) -> Roofline:
        """The program's arithmetic intensity and speed, beside the limits of its board."""
        return roofline_of(self.timeline)

    @property
    def bound(self) -> str:
        """The engine that the program waits for: "TIU" or "TDMA", or "latency" if neither works for half of the
        time."""
        share, name = max((self.timeline.tiu_busy, "TIU"), (self.timeline.tdma_busy, "TDMA"))
        return name if share >= 0.5 else "latency"

    @property
    def idle(self) -> float:
        """TimeShare of the time in which neither engine works, 0 to 1."""
        return 1 - int(self.pieces.ps.sum()) / max(self.timeline.ps, 1)

    def __repr__(self) -> str:
        return f"<Profile {self.name} on {self.timeline.board.name}: {self.timeline.summary}>"

    def _repr_html_(self) -> str:
        return layers_table(repr(self)[1:-1], self.layers)


def profile_program(
    program: str | Path | ProgramFile | Program,
    board: str | Board | None = None,
    *,
    number: int = 0,
    chip: str | None = None,
    verify_md5: bool = True,
) -> Profile:
    """The profile of `program` on `board`.

    `program` is the path of a .cvimodel, a command buffer or a dmabuf (`chip` and `verify_md5` as in open_program), an
    opened ProgramFile, or the result of KernelBuilder.build. `board` is a Board or the name of one; by default the
    evaluation board of the program's chip. `number` selects one of several programs of a .cvimodel.

    Raises UsageError for a board or a program that does not exist and for a program that cannot run on that board,
    Deadlock for one that never ends, and what open_program raises."""
    if isinstance(program, str | Path):
        program = open_program(program, chip=chip, verify_md5=verify_md5)
    if isinstance(program, Program):
        cmdbufs = [parse_cmdbuf(program.chip, data) for data in program.cmdbufs]
        return Profile("kernel program", _timed(cmdbufs, board), tuple(cmdbufs))
    cmdbufs = program.submitted(number) or [parse_cmdbuf(program.chip, b"")]  # a dmabuf may have no segment
    return Profile(program.path.name, _timed(cmdbufs, board), tuple(cmdbufs), program.model, number)


def _timed(cmdbufs: Sequence[Cmdbuf], board: str | Board | None) -> Timeline:
    workload = concatenate([workload_of_cmdbuf(cmdbuf) for cmdbuf in cmdbufs])
    if board is None:
        board = default_board(workload.chip)
    return time_workload(workload, board_named(board) if isinstance(board, str) else board)

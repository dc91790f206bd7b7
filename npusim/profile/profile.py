"""`Profile`: what follows from a timeline, each part computed when it is first asked for and then kept; and
`profile_program`, which makes one from a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npusim.board import Board, board_named, default_board
from npusim.kernels.program import Program
from npusim.loader.cvimodel_types import Cvimodel
from npusim.profile.attribution import LayerRuns, Pieces, layer_runs, pieces_of
from npusim.profile.gmem import Region, regions_of
from npusim.profile.names import TensorNames, names_of
from npusim.profile.notebook import layers_table
from npusim.profile.pmu import PmuRecords
from npusim.profile.pmu_predict import records_of
from npusim.profile.pressure import DramCurve, LmemCurve, dram_curve, lmem_curve
from npusim.profile.roofline import Roofline, roofline_of
from npusim.profile.shares import Share, instruction_shares, layer_shares, tensor_shares
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.open import ProgramFile, open_program
from npusim.timing.host import HostTime, host_time
from npusim.timing.timeline import PS_PER_MS, Timeline, time_workload
from npusim.timing.workload import concatenate, workload_of_cmdbuf


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """Where the time of one program on one board goes. Text, JSON, trace, HTML page and PMU files are printers of this
    object; none of them computes anything of a timeline by itself."""

    name: str
    """What is profiled; a file's name."""
    timeline: Timeline
    cmdbufs: tuple[Cmdbuf, ...]
    """The command buffers of `timeline.workload`, in turn."""
    model: Cvimodel | None = None
    """The .cvimodel that the program is from, which says how large its parts of GMEM are."""
    program: int = 0
    """Which program of `model`."""

    @cached_property
    def pieces(self) -> Pieces:
        """The time cut into pieces that belong to one command each."""
        return pieces_of(self.timeline)

    @cached_property
    def layers(self) -> tuple[Share, ...]:
        """What each layer takes, in the order in which they begin."""
        return layer_shares(self.timeline, self.pieces, self.names)

    @cached_property
    def tensors(self) -> tuple[Share, ...]:
        """What each tensor that the file names takes, in the order in which they begin; nothing without a .cvimodel."""
        return () if self.names is None else tensor_shares(self.timeline, self.pieces, self.names)

    @cached_property
    def names(self) -> TensorNames | None:
        """Which tensor each command works for; None without a .cvimodel."""
        if self.model is None:
            return None
        return names_of(self.timeline.workload, self.cmdbufs, self.model, self.program)

    @cached_property
    def instructions(self) -> tuple[Share, ...]:
        """What each kind of instruction takes, the longest first."""
        return instruction_shares(self.timeline, self.pieces)

    @cached_property
    def layer_runs(self) -> LayerRuns:
        """When the program works on which layer."""
        return layer_runs(self.timeline, self.pieces)

    @cached_property
    def dram(self) -> DramCurve:
        """DRAM bandwidth over time."""
        return dram_curve(self.timeline)

    @cached_property
    def lmem(self) -> LmemCurve:
        """LMEM whose content is still wanted, over time."""
        return lmem_curve(self.timeline)

    @cached_property
    def host(self) -> HostTime:
        """CPU routines and the runtime, which a forward takes beside the TPU; modelled."""
        return host_time(self.timeline.board, self.model, self.program)

    @property
    def total_ms(self) -> float | None:
        """One call of the runtime's forward: TPU, CPU routines and runtime; None where CPU routines are not known."""
        if self.host.cpu_ps is None:
            return None
        return (self.timeline.ps + self.host.cpu_ps + self.host.runtime_ps) / PS_PER_MS

    @cached_property
    def other_clock(self) -> Timeline | None:
        """The same program at the board's other TPU clock, where it is open which of two the board runs at."""
        board = self.timeline.board
        if board.other_mhz is None:
            return None
        other = board.variant(clock_mhz=board.other_mhz)
        return time_workload(self.timeline.workload, other, self.timeline.costs)

    @cached_property
    def records(self) -> PmuRecords:
        """What the chip's performance monitor would write."""
        return records_of(self.timeline, self.cmdbufs)

    @cached_property
    def gmem(self) -> tuple[Region, ...]:
        """What the program moves from and to each region of GMEM."""
        return regions_of(self.timeline, self.cmdbufs, self.model, self.program)

    @cached_property
    def roofline(self) -> Roofline:
        """Where the program stands between the two roofs of its board."""
        return roofline_of(self.timeline)

    @property
    def bound(self) -> str:
        """Which engine the program waits for: "TIU", "TDMA", or "latency" where neither works for half of the time."""
        share, name = max((self.timeline.tiu_busy, "TIU"), (self.timeline.tdma_busy, "TDMA"))
        return name if share >= 0.5 else "latency"

    @property
    def idle(self) -> float:
        """Share of the time in which neither engine works, 0 to 1."""
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
    opened ProgramFile, or what KernelBuilder.build gives. `board` is a Board or the name of one; without it, the
    evaluation board of the program's chip. `number` picks one of several programs of a .cvimodel.

    Raises UsageError for a board or a program that does not exist and for a program that cannot run on that board,
    Deadlock for one that never ends, and the errors of open_program."""
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

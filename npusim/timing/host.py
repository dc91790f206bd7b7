"""How long a call of the runtime's forward takes beside the TPU's time: CPU routines, and the runtime itself.

Both are modelled. A CPU routine is a plain C++ loop of the vendor's runtime (sophgo/cviruntime
src/common/cpu_function). It costs a number of cycles for each element of its largest tensor. The cycles were counted
by hand for a scalar in-order core; only transposition was measured. The runtime's own time is the difference between
the shortest published times and the TPU's predicted time (docs/timing.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from npusim.board import Board
from npusim.loader.cpu_args import parse_cpu_args
from npusim.loader.cvimodel_types import CpuRoutine, Cvimodel, Program, TpuRoutine

PS_PER_US = 1_000_000
DETECTIONS = 20.0
CYCLES_PER_ELEMENT = {
    "quant": 15.0,
    "argmax": 8.0,
    "argmax_v3": 8.0,
    "argmax_with_conf": 8.0,
    "cumsum": 8.0,
    "embedding": 5.0,
    "gatherelements_pt": 15.0,
    "gathernd_tf": 10.0,
    "grid_sampler": 120.0,
    "instance_norm": 25.0,
    "interp": 60.0,
    "interp nearest": 16.0,
    "softmax": 120.0,
    "softmax_cpu": 120.0,
    "topk": 100.0,
    "transpose": 80.0,
    "pixelshuffle": 20.0,
    "preprocess": 30.0,
    "cpu_reduce_max": 8.0,
    "cpu_reduce_mean": 8.0,
    "reduce_l2": 12.0,
    "deform_conv2d": 400.0,
    "deform_im2col": 120.0,
    "detectionoutput": DETECTIONS,
    "frcn_detection": DETECTIONS,
    "proposal": DETECTIONS,
    "retinaface_detection": DETECTIONS,
    "roi_pooling": DETECTIONS,
    "yolo_detection": DETECTIONS,
}
"""CPU cycles for each element of a routine's largest tensor, by function. A transposition of 1.2 MB takes 100 ms on a
CV1800B (YorHamodelnumbernine ...-milkv-duo-64m-LLM-deploy). The time of a detection depends on how many boxes there
are; only the search for them is counted here."""


@dataclass(frozen=True)
class CpuTime:
    """One CPU routine of a program."""

    function: str
    outputs: tuple[str, ...]
    ps: int | None
    """None where the board's CPU clock, or the function, is not known."""


@dataclass(frozen=True)
class HostTime:
    """The part of one forward in which the TPU does not run commands."""

    routines: tuple[CpuTime, ...]
    runtime_ps: int
    """The runtime flushes the inputs, submits each TPU routine, waits for it, and invalidates the outputs."""

    @property
    def cpu_ps(self) -> int | None:
        """All CPU routines together; None if the time of one is not known."""
        times = [routine.ps for routine in self.routines]
        return None if None in times else sum(ps for ps in times if ps is not None)


def host_time(board: Board, model: Cvimodel | None, number: int = 0) -> HostTime:
    """The host's part of a forward of program `number` of `model`; where `model` is None, of one submitted command
    buffer."""
    if model is None:
        return HostTime((), round(board.host.submit_us * PS_PER_US))
    program = model.programs[number]
    cpu = [routine for routine in program.routines if isinstance(routine, CpuRoutine)]
    submits = sum(isinstance(routine, TpuRoutine) for routine in program.routines)
    us = board.host.forward_us + (submits - 1) * board.host.submit_us
    return HostTime(tuple(_cpu_time(board, model, program, routine) for routine in cpu), round(us * PS_PER_US))


def _cpu_time(board: Board, model: Cvimodel, program: Program, routine: CpuRoutine) -> CpuTime:
    shapes = {weight.name: weight.shape for weight in model.weights} | {t.name: t.shape for t in program.tensors}
    names = [name for name in (*routine.inputs, *routine.outputs) if name in shapes]
    elements = max((math.prod(shapes[name]) for name in names), default=0)
    mode = parse_cpu_args(routine.args).get("coordinate_transformation_mode", "")
    nearest = " nearest" if routine.function == "interp" and str(mode).startswith("nearest") else ""
    cycles = CYCLES_PER_ELEMENT.get(routine.function + nearest)
    if cycles is None or not board.host.cpu_mhz:
        return CpuTime(routine.function, routine.outputs, None)
    return CpuTime(routine.function, routine.outputs, round(elements * cycles * PS_PER_US / board.host.cpu_mhz))

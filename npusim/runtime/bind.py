"""Loading a program: memory is laid out, weights are put in place, every tensor becomes a view and every routine a
call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npusim.errors import FileFormatError
from npusim.execute import BoundProgram
from npusim.loader.cpu_args import parse_cpu_args
from npusim.loader.cvimodel import READ_BYTES
from npusim.loader.cvimodel_types import CpuRoutine, Cvimodel, Program, SectionType, TpuRoutine, Weight
from npusim.program.decode import each_instruction
from npusim.program.model import section_cmdbufs
from npusim.runtime.cpu import cpu_function_named
from npusim.runtime.cpu.call import CpuCall
from npusim.runtime.frame import FRAME_ALIGNMENT, tensor_bytes
from npusim.runtime.memory_map import MAX_MAP_BYTES, WEIGHT, ModelMemory, plan_memory
from npusim.runtime.tensor import BoundTensor, TensorInfo, info_of_tensor, info_of_weight
from npusim.state import State

HOST_OFFSET = -1
"""Offset of a tensor that only CPU routines use and that has no place in GMEM."""


@dataclass(frozen=True)
class LoadedProgram:
    """A program ready to run: its activations by name, in program order, and one call for each routine."""

    state: State
    tensors: dict[str, BoundTensor]
    steps: list[Callable[[], None]]


def load_program(file: Cvimodel, program: Program) -> LoadedProgram:
    """Binds `program` to a machine of its own. Raises NpusimError for anything in the file that cannot be run."""
    activations, weights = placed_tensors(file, program)
    memory = map_of_program(file, program)
    _check_host_bytes(sum(info.num_bytes for info, offset in activations if offset == HOST_OFFSET))
    state = State(file.chip, memory.num_bytes)
    state.array_base = memory.array_base
    _load_weights(file, state)
    tensors = {info.name: _bind_tensor(state, memory, info, offset) for info, offset in activations}
    known = {info.name: _bind_tensor(state, memory, info, offset) for info, offset in weights} | tensors
    steps = [_bind_routine(file, state, known, routine) for routine in program.routines]
    return LoadedProgram(state, tensors, [call for calls in steps for call in calls])


def map_of_program(file: Cvimodel, program: Program) -> ModelMemory:
    """The memory map of `program`. Raises FileFormatError where it is too large."""
    activations, weights = placed_tensors(file, program)
    return plan_memory(
        file, program, [(offset, info.num_bytes) for info, offset in activations + weights if offset != HOST_OFFSET]
    )


def placed_tensors(
    file: Cvimodel, program: Program
) -> tuple[list[tuple[TensorInfo, int]], list[tuple[TensorInfo, int]]]:
    """The activations, and the weights that CPU routines read, each with its offset.

    The offset names the base register, or is HOST_OFFSET."""
    activations = [
        (info_of_tensor(t, tensor_bytes(t, FRAME_ALIGNMENT[file.chip.name])), t.offset) for t in program.tensors
    ]
    # The runtime ignores the base register bits of a weight's offset (Neuron's first constructor in neuron.cpp).
    return activations, [
        (info_of_weight(w), (WEIGHT << 40) | w.offset & ((1 << 40) - 1)) for w in _cpu_weights(file, program)
    ]


def _cpu_weights(file: Cvimodel, program: Program) -> list[Weight]:
    """The weights that the program's CPU routines name."""
    names = {name for routine in program.routines if isinstance(routine, CpuRoutine) for name in routine.inputs}
    return [weight for weight in file.weights if weight.name in names]


def _load_weights(file: Cvimodel, state: State) -> None:
    at = state.array_base[WEIGHT]
    for section in file.sections:
        if section.kind == SectionType.WEIGHT:
            end = section.offset + section.num_bytes
            for start in range(section.offset, end, READ_BYTES):
                state.gmem.write(at + start - section.offset, file.payload[start : min(start + READ_BYTES, end)])
            at += section.num_bytes


def _bind_tensor(state: State, memory: ModelMemory, info: TensorInfo, offset: int) -> BoundTensor:
    shape: tuple[int, ...] = (info.num_bytes // info.dtype.itemsize,) if info.aligned else info.shape
    if offset == HOST_OFFSET:
        return BoundTensor(info, np.zeros(shape, info.dtype))
    return BoundTensor(info, np.ndarray(shape, info.dtype, state.gmem.bytes, memory.address(offset)))


def _bind_routine(
    file: Cvimodel, state: State, tensors: dict[str, BoundTensor], routine: TpuRoutine | CpuRoutine
) -> list[Callable[[], None]]:
    if isinstance(routine, TpuRoutine):
        return [BoundProgram(state, each_instruction(cmdbuf)).run for cmdbuf in section_cmdbufs(file, routine.section)]
    for name in (*routine.inputs, *routine.outputs):
        if name not in tensors:
            raise FileFormatError(
                f"CPU routine {routine.function} uses {name!r}, which is neither an activation nor a weight "
                "of the model"
            )
    inputs, outputs = (tuple(tensors[name] for name in names) for names in (routine.inputs, routine.outputs))
    return [
        cpu_function_named(routine.function)(CpuCall(routine.function, inputs, outputs, parse_cpu_args(routine.args)))
    ]


def _check_host_bytes(num_bytes: int) -> None:
    if num_bytes > MAX_MAP_BYTES:
        raise FileFormatError(
            f"tensors in host memory need {num_bytes} bytes, but at most {MAX_MAP_BYTES} are supported"
        )

"""Checks a .cvimodel: where its weights, inputs, outputs and activations are in GMEM, and its routines in order."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.check.area import Area
from npusim.check.checker import Checker
from npusim.check.finding import Finding
from npusim.check.gmem import GlobalMemory
from npusim.loader.cvimodel_types import CpuRoutine, Cvimodel, Program
from npusim.mem.lmem import align_up
from npusim.mem.region import Region
from npusim.program.model import by_segment, section_cmdbufs
from npusim.runtime.bind import HOST_OFFSET, placed_tensors
from npusim.runtime.memory_map import PAGE_BYTES, WEIGHT, plan_memory, split_offset

_NAMES = ("shared memory", "weights", "private memory")


def check_model(model: Cvimodel, program: int = 0) -> list[Finding]:
    """What is wrong with program number `program` of `model`. Raises NpusimError if the file contradicts itself."""
    chosen = model.programs[program]
    activations, weights = placed_tensors(model, chosen)
    placed = {
        info.name: _region(offset, info.num_bytes) for info, offset in weights + activations if offset != HOST_OFFSET
    }
    memory = plan_memory(
        model, chosen, [(offset, info.num_bytes) for info, offset in activations + weights if offset != HOST_OFFSET]
    )
    # In files of version 1.0 two base registers stand for the same memory, which areas by register cannot tell.
    gmem = GlobalMemory(() if chosen.neuron_bytes else _areas(model, chosen, placed, memory.sizes))
    checker = Checker(model.chip, gmem, memory.array_base)
    for routine in chosen.routines:
        if not isinstance(routine, CpuRoutine):
            checker.submit(by_segment(routine.section, section_cmdbufs(model, routine.section)))
        elif gmem.areas:
            for name in routine.inputs:
                if name in placed and placed[name].memory != WEIGHT:
                    checker.add(gmem.read(placed[name], f"CPU routine {routine.function}"))
            for name in routine.outputs:
                if name in placed:
                    gmem.set(placed[name], None, f"{name}, which CPU routine {routine.function} writes,")
    return checker.findings()


def _areas(model: Cvimodel, program: Program, placed: dict[str, Region], sizes: tuple[int, ...]) -> Iterator[Area]:
    for base_reg, num_bytes in enumerate(sizes):
        name = _NAMES[base_reg] if base_reg < len(_NAMES) else f"the input or output of base register {base_reg}"
        # The runtime allocates whole pages, so a program may touch the bytes from the stated size to the page's end.
        yield Area(
            name,
            base_reg,
            0,
            align_up(num_bytes, PAGE_BYTES),
            is_set=base_reg == WEIGHT,
            is_writable=base_reg != WEIGHT,
        )
    for weight in model.weights:
        start = weight.offset & ((1 << 40) - 1)
        if start + weight.num_bytes <= sizes[WEIGHT]:
            yield Area(
                f"weight {weight.name}",
                WEIGHT,
                start,
                weight.num_bytes,
                is_whole=True,
                element_bytes=weight.dtype.numpy.itemsize,
            )
    for tensor in program.tensors:
        if tensor.name in placed:
            is_input, is_output = tensor.name in program.inputs, tensor.name in program.outputs
            place = placed[tensor.name]
            yield Area(
                tensor.name, place.memory, place.start, place.run, is_set=is_input, is_kept=is_output, is_stored=True
            )


def _region(offset: int, num_bytes: int) -> Region:
    base_reg, start = split_offset(offset)
    return Region(base_reg, start, (), (), num_bytes)

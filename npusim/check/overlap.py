"""Results that lie over an operand of the same command.

The vendor's model reads every operand of a TIU command whole before it writes; hardware works element by element, so
only a result that takes the very place of its operand is safe there. A DMA copy onto itself goes element by element in
the model too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.timeline import Step
from npusim.footprint import LMEM, Operand
from npusim.footprint.operand import LocalTensor
from npusim.insn.elementwise import Elementwise
from npusim.insn.tdma_copy import L2lTensorCopy
from npusim.insn.tiu_lut import LookupTable
from npusim.mem.lmem import TensorLmem
from npusim.state import State


def check_overlap(step: Step, scratch: State) -> Iterator[Found]:
    """At most one fault. `scratch` is a machine of the same chip whose LMEM may be written over."""
    for operand in step.footprint.reads:
        for result in step.footprint.writes:
            if operand.name == result.name:
                continue  # a sum that goes on where it lies
            if _apart_in_lane(operand, result, scratch):
                continue
            if any(a.overlaps(b) for a in operand.regions for b in result.regions) and not _is_safe(step, scratch):
                yield (
                    Kind.OVERLAP,
                    f"the {result.name} of {step.name} lies over its {operand.name}, which is still read",
                    (step,),
                )
                return


def _apart_in_lane(a: Operand, b: Operand, scratch: State) -> bool:
    """Whether the offsets within a lane alone keep two operands in LMEM apart, as they mostly do."""
    if not a.tensors or not b.tensors:
        return False
    (start, end), (other_start, other_end) = (_offsets(o, scratch) for o in (a, b))
    return end <= other_start or other_end <= start


def _offsets(operand: Operand, scratch: State) -> tuple[int, int]:
    lanes, lane_bytes = scratch.chip.num_lanes, scratch.chip.lmem_bytes
    starts, ends = [], []
    for addr, (n, c, h, w), (n_str, c_str, h_str, w_str), itemsize in operand.tensors:
        lane, offset = divmod(addr, lane_bytes)
        starts.append(offset)
        ends.append(
            offset + (n - 1) * n_str + ((lane + c - 1) // lanes) * c_str + (h - 1) * h_str + (w - 1) * w_str + itemsize
        )
    return min(starts), max(ends)


def _is_safe(step: Step, scratch: State) -> bool:
    if isinstance(step.instruction, Elementwise | LookupTable):
        return _is_in_place(step)
    if isinstance(step.instruction, L2lTensorCopy):
        return _copies_as_if_apart(step.instruction, scratch)
    places = [[r for o in operands for r in o.regions] for operands in (step.footprint.reads, step.footprint.writes)]
    return places[0] == places[1] and all(r.memory != LMEM for r in places[0])  # GMEM to GMEM, onto the very same bytes


def _is_in_place(step: Step) -> bool:
    """Whether every operand tensor that meets the result has each element where the result has it."""
    results = [tensor for operand in step.footprint.writes for tensor in operand.tensors]
    return all(
        _same_place(tensor, result) or not _meet(step, tensor, result)
        for operand in step.footprint.reads
        for tensor in operand.tensors
        for result in results
    )


def _same_place(a: LocalTensor, b: LocalTensor) -> bool:
    strides = [[s for s, extent in zip(t.strides, t.shape, strict=True) if extent > 1] for t in (a, b)]
    return a.addr == b.addr and a.shape == b.shape and strides[0] == strides[1]


def _meet(step: Step, a: LocalTensor, b: LocalTensor) -> bool:
    assert step.instruction is not None
    chip = step.instruction.chip
    return any(x.overlaps(y) for x in a.regions(chip) for y in b.regions(chip))


def _copies_as_if_apart(insn: L2lTensorCopy, scratch: State) -> bool:
    """Tries the copy on random bytes: whether it comes out as if the source had been read whole first."""
    sizes = insn.itemsizes()
    rng = np.random.default_rng(0)
    scratch.lmem[...] = rng.integers(0, 256, scratch.lmem.shape, np.uint8)
    before = scratch.lmem.copy()
    types = (np.uint8, np.uint16)
    source = TensorLmem(scratch, insn.src_addr, insn.src_shape, insn.src_strides(sizes[0]), types[sizes[0] - 1])
    target = TensorLmem(scratch, insn.dst_addr, insn.dst_shape, insn.dst_strides(sizes[1]), types[sizes[1] - 1])
    table = insn.table()
    values = source.load().copy()
    target.store((values if table is None else table[values]).reshape(insn.dst_shape))
    wanted = scratch.lmem.copy()
    scratch.lmem[...] = before
    insn.execute(scratch)
    return bool((scratch.lmem == wanted).all())

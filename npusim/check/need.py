"""Which of the bytes that a command reads matter: those that reach, through results that are read later, what leaves
LMEM.

Programs read more than they need: a matrix multiplication works on whole channels of the right matrix, though the last
one may be half filled, and so do the operations behind it until a store takes the valid columns alone. Such reads touch
whatever lies there, and no harm comes of it. A pass from the end to the start finds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.check.timeline import Step
from npusim.chip import Chip
from npusim.insn.operand import Access, Share
from npusim.mem.region import LMEM, Region
from npusim.mem.tensor import LocalTensor

Mask = NDArray[np.bool_]


class NeededRead(NamedTuple):
    """A region of LMEM that an access reads; `mask` tells which of its bytes matter, None for all."""

    access: Access
    region: Region
    mask: Mask | None


def needed_reads(chip: Chip, order: list[Step]) -> list[list[NeededRead]]:
    """What matters of the reads of each step of `order`."""
    need, marks = Marks(chip), Marks(chip)
    found: list[list[NeededRead]] = []
    for step in reversed(order):
        reads = list(_needed_of(step, need, marks))
        for access in step.footprint.writes:
            for place in access.regions:
                if place.memory == LMEM:
                    place.view(need.bytes)[...] = 0
        for read in reads:
            np.copyto(read.region.view(need.bytes), 1, where=True if read.mask is None else read.mask)
        found.append(reads)
    return found[::-1]


class Marks:
    """A mark for every byte of LMEM."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.bytes = np.zeros(chip.lmem_total_bytes, np.uint8)

    def load(self, tensor: LocalTensor) -> Mask:
        """Which elements have a mark on any byte."""
        addrs = tensor.element_addrs(self.chip)
        return np.logical_or.reduce([self.bytes[addrs + i] for i in range(tensor.itemsize)])

    def set(self, tensor: LocalTensor, wanted: Mask) -> None:
        """Marks every byte of the elements where `wanted` (broadcast to the tensor's shape) is set; elements may
        overlap."""
        addrs = tensor.element_addrs(self.chip)[np.broadcast_to(wanted, tensor.shape)]
        for i in range(tensor.itemsize):
            self.bytes[addrs + i] = 1


def _needed_of(step: Step, need: Marks, marks: Marks) -> Iterator[NeededRead]:
    if not any(place.memory == LMEM for access in step.footprint.reads for place in access.regions):
        return
    outputs = [
        place.view(need.bytes) for access in step.footprint.writes for place in access.regions if place.memory == LMEM
    ]
    is_needed = [bool(view.any()) for view in outputs]
    if outputs and not any(is_needed):
        return
    all_needed = not outputs or all(view.all() for view in outputs)
    result = (
        None
        if all_needed or not any(a.operand.share is not Share.WHOLE for a in step.footprint.reads)
        else _needed_elements(step, need)
    )
    for access in step.footprint.reads:
        mask = None if result is None else _share(access, result)
        if mask is not None and access.tensors:
            _mark(access, mask, marks)
        for place in access.regions:
            if place.memory == LMEM:
                yield NeededRead(access, place, None if mask is None else place.view(marks.bytes) != 0)


def _needed_elements(step: Step, need: Marks) -> Mask:
    """Which elements of the result are needed, shape (n, c, h, w): any of their planes."""
    (access,) = step.footprint.writes
    found = need.load(access.tensors[0]).copy()
    for plane in access.tensors[1:]:
        found |= need.load(plane)
    return found


def _mark(access: Access, mask: Mask, marks: Marks) -> None:
    for place in access.regions:
        place.view(marks.bytes)[...] = 0
    for tensor in access.tensors:
        marks.set(tensor, mask)


_SUMMED = {Share.CHANNEL: (0, 2, 3), Share.WINDOW: (2, 3), Share.ROW: (1, 2, 3), Share.COLUMN: (0,)}
"""Axes of the result over which one element of an access is spread."""


def _share(access: Access, result: Mask) -> Mask | None:
    """From needed elements of the result to those of each tensor of an access; None for all."""
    share = access.operand.share
    if share is Share.WHOLE:
        return None
    if share is Share.ELEMENT:
        return result
    if share is Share.MOVED:
        return result.reshape(access.tensors[0].shape)
    # A matrix that has one row for several of the result's is read for each of them.
    extents = access.tensors[0].shape if access.tensors else result.shape
    spread = tuple(axis for axis in range(4) if axis in _SUMMED[share] or extents[axis] == 1)
    return np.logical_or.reduce(result, axis=spread, keepdims=True)

"""Which bytes that a command reads are needed: those that, directly or through later results, reach a store to GMEM.

Programs read more than they need. A matrix multiplication works on whole channels of the right matrix, though the last
one may be half filled. So do the operations after it, until a store takes only the valid columns. The other bytes may
hold anything. A pass from the last command to the first finds which are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.check.ordering import Step
from npusim.chip import Chip
from npusim.insn.operand import Access, Share
from npusim.mem.region import LMEM, Region
from npusim.mem.tensor import LocalTensor

Mask = NDArray[np.bool_]


class NeededRead(NamedTuple):
    """A region of LMEM that an access reads. `mask`, in the shape of the region's view, says which bytes are needed;
    None for all."""

    access: Access
    region: Region
    mask: Mask | None


def needed_reads(chip: Chip, order: list[Step]) -> list[list[NeededRead]]:
    """For each step of `order`, its reads of LMEM that are needed."""
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
        """bool in the tensor's shape: the elements of which any byte is marked."""
        addrs = tensor.element_addrs(self.chip)
        return np.logical_or.reduce([self.bytes[addrs + i] for i in range(tensor.itemsize)])

    def set(self, tensor: LocalTensor, wanted: Mask) -> None:
        """Marks every byte of the elements for which `wanted`, broadcast to the tensor's shape, is true. Elements may
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
    """bool of shape (n, c, h, w): the elements of the result of which any plane is needed."""
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
"""Axes of the result along which one element of the operand is used for all elements."""


def _share(access: Access, result: Mask) -> Mask | None:
    """The needed elements of each tensor of `access`, given those of the result; None for all."""
    share = access.operand.share
    if share is Share.WHOLE:
        return None
    if share is Share.ELEMENT:
        return result
    if share is Share.MOVED:
        return result.reshape(access.tensors[0].shape)
    # A matrix with one row serves every row of the result.
    extents = access.tensors[0].shape if access.tensors else result.shape
    spread = tuple(axis for axis in range(4) if axis in _SUMMED[share] or extents[axis] == 1)
    return np.logical_or.reduce(result, axis=spread, keepdims=True)

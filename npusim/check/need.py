"""Which of the bytes that a command reads matter: those that reach, through results that are read later, what leaves
LMEM.

Programs read more than they need: a matrix multiplication works on whole channels of the right matrix, though the last
one may be half filled, and so do the operations behind it until a store takes the valid columns alone. Such reads touch
whatever lies there, and no harm comes of it. A pass from the end to the start finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.check.timeline import Step
from npusim.chip import Chip
from npusim.footprint import LMEM, Operand, Region
from npusim.footprint.operand import LocalTensor
from npusim.insn import INSTRUCTIONS, Instruction
from npusim.insn.elementwise import Elementwise
from npusim.insn.tdma_copy import L2lTensorCopy
from npusim.insn.tiu_conv import Convolution
from npusim.insn.tiu_depthwise_pool import AveragePooling, DepthwiseConvolution, MaxPooling, MinPooling
from npusim.insn.tiu_lut import LookupTable
from npusim.insn.tiu_matmul import MatrixMultiplication
from npusim.mem.lmem import Shape, TensorLmem
from npusim.state import State

Mask = NDArray[np.bool_]


class NeededRead(NamedTuple):
    """A region of LMEM that an operand reads; `mask` tells which of its bytes matter, None for all."""

    operand: Operand
    region: Region
    mask: Mask | None


def needed_reads(chip: Chip, order: list[Step]) -> list[list[NeededRead]]:
    """What matters of the reads of each step of `order`."""
    need, marks = Marks(chip), Marks(chip)
    found: list[list[NeededRead]] = []
    for step in reversed(order):
        reads = list(_needed_of(step, need, marks))
        for operand in step.footprint.writes:
            for place in operand.regions:
                if place.memory == LMEM:
                    place.view(need.bytes)[...] = 0
        for read in reads:
            np.copyto(read.region.view(need.bytes), 1, where=True if read.mask is None else read.mask)
        found.append(reads)
    return found[::-1]


class Marks(State):
    """A mark for every byte of LMEM, with tensors laid over them as over LMEM itself."""

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip, 0)
        self.bytes: NDArray[np.uint8] = self.lmem_flat

    def load(self, tensor: LocalTensor) -> Mask:
        """Which elements have a mark on any byte."""
        return self._elements(tensor).load() != 0

    def set(self, tensor: LocalTensor, wanted: Mask) -> None:
        """Marks every byte of the elements where `wanted` (broadcast to the tensor's shape) is set; elements may
        overlap."""
        addrs = self._elements(tensor).element_addrs()[np.broadcast_to(wanted, tensor.shape)]
        for i in range(tensor.itemsize):
            self.bytes[addrs + i] = 1

    def _elements(self, tensor: LocalTensor) -> TensorLmem:
        return TensorLmem(
            self, tensor.addr, tensor.shape, tensor.strides, np.uint16 if tensor.itemsize == 2 else np.uint8
        )


def _needed_of(step: Step, need: Marks, marks: Marks) -> Iterator[NeededRead]:
    if not any(place.memory == LMEM for operand in step.footprint.reads for place in operand.regions):
        return
    outputs = [
        place.view(need.bytes) for operand in step.footprint.writes for place in operand.regions if place.memory == LMEM
    ]
    is_needed = [bool(view.any()) for view in outputs]
    if outputs and not any(is_needed):
        return
    all_needed = not outputs or all(view.all() for view in outputs)
    share = None if all_needed or step.instruction is None else SHARES.get(type(step.instruction))
    result = _needed_elements(step, need) if share else None
    for operand in step.footprint.reads:
        masks = share(step.instruction, operand, result) if share and result is not None and step.instruction else None
        if masks is not None and operand.tensors:
            _mark(operand, masks, marks)
        for place in operand.regions:
            if place.memory == LMEM:
                yield NeededRead(operand, place, None if masks is None else place.view(marks.bytes) != 0)


def _needed_elements(step: Step, need: Marks) -> Mask:
    """Which elements of the result are needed, shape (n, c, h, w): any of their planes."""
    (operand,) = step.footprint.writes
    found = need.load(operand.tensors[0]).copy()
    for plane in operand.tensors[1:]:
        found |= need.load(plane)
    return found


def _mark(operand: Operand, masks: list[Mask], marks: Marks) -> None:
    for place in operand.regions:
        place.view(marks.bytes)[...] = 0
    for tensor, mask in zip(operand.tensors, masks, strict=True):
        marks.set(tensor, mask)


Share = Callable[[Instruction, Operand, Mask], list[Mask] | None]
"""From needed elements of the result to those of each tensor of an operand; None for all."""


def _same_element(_: Instruction, operand: Operand, result: Mask) -> list[Mask] | None:
    return [result] * len(operand.tensors)


def _looked_up(_: Instruction, operand: Operand, result: Mask) -> list[Mask] | None:
    return [result] if operand.name == "opd0" else None


def _same_channel(_: Instruction, operand: Operand, result: Mask) -> list[Mask] | None:
    if operand.name == "res0":
        return [result] * len(operand.tensors)
    return [_any(result, (0, 2, 3))] * len(operand.tensors)


def _convolved(insn: Instruction, operand: Operand, result: Mask) -> list[Mask] | None:
    return None if operand.name == "opd0" else _same_channel(insn, operand, result)


def _multiplied(_: Instruction, operand: Operand, result: Mask) -> list[Mask] | None:
    """Row of opd0, column of opd1 and opd2."""
    if operand.name == "res0":
        return [result] * len(operand.tensors)
    axes = (1, 2, 3) if operand.name == "opd0" else (0,)
    return [_any(result, axes)] * len(operand.tensors)


def _any(marks: Mask, axes: tuple[int, ...]) -> Mask:
    return np.logical_or.reduce(marks, axis=axes, keepdims=True)


def _moved(_: Instruction, operand: Operand, result: Mask) -> list[Mask] | None:
    shape: Shape = operand.tensors[0].shape
    return [result.reshape(shape)]


def _shares() -> dict[type[Instruction], Share]:
    rules: tuple[tuple[type[Instruction] | tuple[type[Instruction], ...], Share], ...] = (
        (Elementwise, _same_element),
        (LookupTable, _looked_up),
        (Convolution, _convolved),
        ((DepthwiseConvolution, MaxPooling, MinPooling, AveragePooling), _same_channel),
        (MatrixMultiplication, _multiplied),
        (L2lTensorCopy, _moved),
    )
    return {kind: share for kind in INSTRUCTIONS for base, share in rules if issubclass(kind, base)}


SHARES = _shares()
"""Instructions whose result is needed in parts."""

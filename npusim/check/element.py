"""What a command takes the elements of an operand to be, where it works on numbers and does not only move bytes."""

from __future__ import annotations

from npusim.check.timeline import Step
from npusim.footprint import Operand
from npusim.insn.base import TiuInstruction
from npusim.insn.tdma_copy import GeneralCopy, TensorFillConstant
from npusim.insn.tiu_arith import Copy
from npusim.insn.tiu_bitwise import Bitwise
from npusim.insn.tiu_conv import Convolution
from npusim.insn.tiu_depthwise_pool import DepthwiseConvolution
from npusim.insn.tiu_lut import LookupTable

_MOVE_BYTES = (Copy, Bitwise, GeneralCopy, TensorFillConstant)


def element_bytes(step: Step, operand: Operand) -> int:
    """1 or 2; 0 where it may be either."""
    insn = step.instruction
    if (
        isinstance(insn, _MOVE_BYTES)
        or not operand.tensors
        or (isinstance(insn, LookupTable) and operand.name == "opd0")
    ):
        return 0
    if isinstance(insn, Convolution | DepthwiseConvolution) and isinstance(insn, TiuInstruction):
        return 2 if insn.regs.opd_typ else 1  # kernels and biases are given in bytes a channel
    return operand.tensors[0].itemsize


def are_no_indices(step: Step, operand: Operand, writer: Step) -> bool:
    """Whether `step` looks up, in a table of bf16, at what `writer` has found in another: numbers, not indices."""
    insn, source = step.instruction, writer.instruction
    is_index = isinstance(insn, LookupTable) and operand.name == "opd0" and bool(insn.regs.opd_typ)
    return is_index and isinstance(source, LookupTable) and bool(source.regs.opd_typ)

"""What each instruction does. `INSTRUCTIONS` is the explicit list; decode finds the class of a descriptor in it."""

from __future__ import annotations

from npusim.insn.base import Instruction, TdmaInstruction, TiuInstruction
from npusim.insn.operand import Role
from npusim.insn.tdma import TDMA_INSTRUCTIONS
from npusim.insn.tiu_arith import ARITH_INSTRUCTIONS
from npusim.insn.tiu_bitwise import BITWISE_INSTRUCTIONS
from npusim.insn.tiu_conv import CONV_INSTRUCTIONS
from npusim.insn.tiu_depthwise_pool import DEPTHWISE_POOL_INSTRUCTIONS
from npusim.insn.tiu_lut import LUT_INSTRUCTIONS
from npusim.insn.tiu_matmul import MATMUL_INSTRUCTIONS
from npusim.insn.tiu_mdsum import MDSUM_INSTRUCTIONS

__all__ = [
    "INSTRUCTIONS", "TDMA_OPERANDS", "TIU_OPERANDS", "WRITTEN_OPERANDS", "Instruction", "TdmaInstruction",
    "TiuInstruction",
]  # fmt: skip

INSTRUCTIONS: tuple[type[Instruction], ...] = (
    *CONV_INSTRUCTIONS,
    *DEPTHWISE_POOL_INSTRUCTIONS,
    *MATMUL_INSTRUCTIONS,
    *ARITH_INSTRUCTIONS,
    *BITWISE_INSTRUCTIONS,
    *LUT_INSTRUCTIONS,
    *MDSUM_INSTRUCTIONS,
    *TDMA_INSTRUCTIONS,
)


def _operand_names(engine: type[Instruction]) -> tuple[str, ...]:
    """Of every instruction of one engine, in the order in which they are declared."""
    return tuple(dict.fromkeys(o.name for kind in INSTRUCTIONS if issubclass(kind, engine) for o in kind.operands))


TIU_OPERANDS = _operand_names(TiuInstruction)
TDMA_OPERANDS = _operand_names(TdmaInstruction)
WRITTEN_OPERANDS = frozenset(o.name for kind in INSTRUCTIONS for o in kind.operands if o.role is Role.WRITE)

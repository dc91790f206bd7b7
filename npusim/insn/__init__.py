"""What each instruction does. `INSTRUCTIONS` is the explicit list; decode finds the class of a descriptor in it."""

from __future__ import annotations

from npusim.insn.base import Instruction, TdmaInstruction, TiuInstruction

__all__ = ["INSTRUCTIONS", "Instruction", "TdmaInstruction", "TiuInstruction"]

INSTRUCTIONS: tuple[type[Instruction], ...] = ()

"""Every instruction of the DMA engine, by direction."""

from __future__ import annotations

from npusim.insn.base import Instruction
from npusim.insn.tdma_copy import (
    G2gGeneralCopy,
    G2gTensorCopy,
    G2lGeneralCopy,
    G2lTensorCopy,
    L2gGeneralCopy,
    L2gTensorCopy,
    L2lTensorCopy,
)

TDMA_INSTRUCTIONS: tuple[type[Instruction], ...] = (
    G2lTensorCopy,
    L2gTensorCopy,
    L2lTensorCopy,
    G2gTensorCopy,
    G2lGeneralCopy,
    L2gGeneralCopy,
    G2gGeneralCopy,
)

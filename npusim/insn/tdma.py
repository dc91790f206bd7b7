"""Every instruction of the DMA engine."""

from __future__ import annotations

from npusim.insn.base import Instruction
from npusim.insn.tdma_copy import (
    G2gGeneralCopy,
    G2gTensorCopy,
    G2lGeneralCopy,
    G2lTensorCopy,
    G2lTensorFillConstant,
    L2gGeneralCopy,
    L2gTensorCopy,
    L2gTensorFillConstant,
    L2lTensorCopy,
)
from npusim.insn.tdma_matrix import G2lMatrixCopy, G2lMatrixCopyRowColTransposed, L2gMatrixCopy
from npusim.insn.tdma_transpose import (
    G2lTensorCopyChwRotated,
    G2lTensorCopyNcTransposed,
    L2gTensorCopyCwTransposed,
    L2gTensorCopyNcTransposed,
)
from npusim.insn.tdma_vlc import (
    G2lMatrixCopyDecompressed,
    G2lTensorCopyDecompressed,
    L2gMatrixCopyCompressed,
    L2gTensorCopyCompressed,
)

TDMA_INSTRUCTIONS: tuple[type[Instruction], ...] = (
    G2lTensorCopy,
    L2gTensorCopy,
    L2lTensorCopy,
    G2gTensorCopy,
    G2lGeneralCopy,
    L2gGeneralCopy,
    G2gGeneralCopy,
    G2lMatrixCopy,
    L2gMatrixCopy,
    G2lTensorCopyNcTransposed,
    L2gTensorCopyNcTransposed,
    L2gTensorCopyCwTransposed,
    G2lTensorCopyChwRotated,
    G2lMatrixCopyRowColTransposed,
    G2lTensorFillConstant,
    L2gTensorFillConstant,
    G2lTensorCopyDecompressed,
    L2gTensorCopyCompressed,
    G2lMatrixCopyDecompressed,
    L2gMatrixCopyCompressed,
)

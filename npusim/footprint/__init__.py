"""Which bytes of LMEM and GMEM an instruction reads and writes, from its descriptor alone, without a machine.

>>> footprint = footprint_of(instruction)                                   # doctest: +SKIP
>>> [(o.name, o.num_bytes) for o in footprint.writes]                       # doctest: +SKIP
[('res0', 1280)]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npusim.footprint.operand import Footprint, Operand
from npusim.footprint.tdma import TDMA_FOOTPRINTS
from npusim.footprint.tiu import TIU_FOOTPRINTS
from npusim.insn import INSTRUCTIONS, Instruction
from npusim.mem.region import LMEM, Region

__all__ = ["LMEM", "Footprint", "Operand", "Region", "footprint_of"]


def _footprint_function(kind: type[Instruction]) -> Callable[[Any], Footprint]:
    for base, give in (*TIU_FOOTPRINTS, *TDMA_FOOTPRINTS):
        if issubclass(kind, base):
            return give
    raise AssertionError(f"{kind.__name__} has no footprint; give it a line in TIU_FOOTPRINTS or TDMA_FOOTPRINTS")


_FUNCTIONS = {kind: _footprint_function(kind) for kind in INSTRUCTIONS}


def footprint_of(instruction: Instruction) -> Footprint:
    """What `instruction` touches. It must be one that binds: the footprint of an illegal instruction means nothing."""
    return _FUNCTIONS[type(instruction)](instruction)

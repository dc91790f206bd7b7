"""Tensors in LMEM that can be moved by changing the addresses of the commands that use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.mem.region import LMEM, Region
from npusim.program.cmdbuf import Cmdbuf
from npusim.program.decode import decode_cmdbuf


@dataclass(frozen=True)
class Buffer:
    """What one command wrote to LMEM at `addr`, and the operands that read it, all of them alone and from there on."""

    addr: int
    uses: tuple[tuple[int, str], ...]
    """(place of the command, name of its operand), the writer's first."""

    @property
    def lifetime(self) -> tuple[int, int]:
        return self.uses[0][0], self.uses[-1][0]


def buffers_of(cmdbuf: Cmdbuf) -> list[Buffer]:
    """Buffers of `cmdbuf` that can be moved by changing address fields alone."""
    chip = cmdbuf.chip
    owner = np.full(chip.lmem_total_bytes, -1, np.int32)
    uses: dict[int, list[tuple[int, str]]] = {}
    addrs: dict[int, int] = {}
    shared: set[int] = set()

    def local(regions: tuple[Region, ...]) -> list[Region]:
        return [r for r in regions if r.memory == LMEM]

    for insn in sorted(decode_cmdbuf(cmdbuf), key=lambda i: i.index):
        footprint = insn.footprint()
        for operand in footprint.reads:
            if regions := local(operand.regions):
                owners = {int(o) for r in regions for o in np.unique(r.view(owner))}
                (writer, *more) = owners
                if more or addrs.get(writer) != regions[0].start:
                    shared |= owners
                uses.setdefault(writer, []).append((insn.index, operand.name))
        for operand in footprint.writes:
            if regions := local(operand.regions):
                uses[insn.index] = [(insn.index, operand.name)]
                addrs[insn.index] = regions[0].start
                for r in regions:
                    r.view(owner)[...] = insn.index
    # Addresses of opd1 and opd2 have 16 bits: buffers on lane 0 stay on it.
    fit = [w for w in addrs if w not in shared and len(uses[w]) > 1 and addrs[w] < chip.lmem_bytes]
    return [Buffer(addrs[w], tuple(uses[w])) for w in fit]

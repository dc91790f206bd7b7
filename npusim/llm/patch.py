"""The few addresses of a static program that change from token to token, and how they are set without building it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.decode import decode_tdma
from npusim.errors import UsageError
from npusim.insn import Instruction
from npusim.isa.descriptors import tdma_layout
from npusim.loader.cmdbuf import HEADER_BYTES, Cmdbuf
from npusim.state import State


@dataclass(frozen=True)
class Patch:
    """The GMEM side ("src" or "dst") of the TDMA command with index `command`; all patches of one name get one address."""

    name: str
    command: int
    side: str


class PatchTable:
    """Where the patches of a command buffer lie: in its bytes, and among its bound instructions.

    Addresses are 32-bit offsets from the chip's GMEM base; the upper 8 bits of a descriptor's address stay as they were assembled.
    """

    def __init__(self, chip: Chip, cmdbuf: Cmdbuf, patches: Sequence[Patch]) -> None:
        self.patches = tuple(patches)
        self.names = tuple(dict.fromkeys(p.name for p in self.patches))
        self._by_name: dict[str, list[Patch]] = {}
        for patch in self.patches:
            self._by_name.setdefault(patch.name, []).append(patch)
        tdma = set(cmdbuf.tdma_index.tolist())
        for patch in self.patches:
            if patch.command not in tdma or patch.side not in ("src", "dst"):
                raise UsageError(f"patch {patch.name} names side {patch.side!r} of command {patch.command}, which is no TDMA command's")
        layout = tdma_layout(chip)
        words = {side: layout.by_name[f"{side}_base_addr_low"].lsb // 8 for side in ("src", "dst")}
        starts = _starts(cmdbuf)
        self._offsets = {p: int(starts[p.command]) + HEADER_BYTES + words[p.side] for p in self.patches}

    def commands(self, name: str) -> list[Patch]:
        """The patches called `name`; UsageError that lists a few names where there is none."""
        try:
            return self._by_name[name]
        except KeyError:
            raise UsageError(f"no patch is called {name!r}; there are {', '.join(self.names[:8]) or 'none'}") from None

    def byte_offset(self, patch: Patch) -> int:
        """Where the low 32 bits of the address lie in the command buffer."""
        return self._offsets[patch]

    def write(self, cmdbuf: NDArray[np.uint8], addresses: Mapping[str, int]) -> None:
        """Sets addresses in the bytes of a command buffer, in place."""
        for name, addr in addresses.items():
            for patch in self.commands(name):
                at = self.byte_offset(patch)
                cmdbuf[at : at + 4] = np.frombuffer(int(addr).to_bytes(4, "little"), np.uint8)


def rebound(state: State, instruction: Instruction, side: str, addr: int) -> Instruction:
    """The TDMA instruction with another GMEM address on one side."""
    return decode_tdma(state.chip, instruction.regs._replace(**{f"{side}_base_addr_low": addr}), instruction.index)


def _starts(cmdbuf: Cmdbuf) -> NDArray[np.int64]:
    """Byte offset of each command's header."""
    widths = np.full(cmdbuf.num_commands, HEADER_BYTES, np.int64)
    for rows, index in ((cmdbuf.tiu, cmdbuf.tiu_index), (cmdbuf.tdma, cmdbuf.tdma_index)):
        widths[index] += rows.shape[1]
    return np.cumsum(widths) - widths

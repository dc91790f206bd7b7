"""`Machine`: a chip with its memory, which runs raw command buffers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip, chip_named
from npusim.errors import UsageError
from npusim.execute import BoundProgram
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.decode import each_instruction
from npusim.state import NUM_BASE_REGS, Gmem, State


class Machine:
    """One chip. GMEM, LMEM and base registers are zero at first and keep their content between calls, as in the
    vendor's functional model.

    >>> machine = Machine("cv181x")
    >>> machine.gmem.write(0x1000000, b"weights")
    >>> machine.lmem.shape
    (8, 32768)
    """

    def __init__(self, chip: str | Chip, gmem_bytes: int | None = None) -> None:
        """`chip` is a Chip or a name such as "cv181x". `gmem_bytes` is the size of GMEM, by default the chip's 4 GiB;
        only pages that are touched cost memory. Raises UsageError for a chip or a size that does not exist."""
        self.state = State(chip_named(chip) if isinstance(chip, str) else chip, gmem_bytes)

    def __repr__(self) -> str:
        chip = self.chip
        lmem = f"{chip.num_lanes} lanes of {chip.lmem_bytes:,} bytes of LMEM"
        return f"<Machine {chip.name}: {lmem}, {len(self.gmem):,} bytes of GMEM>"

    @property
    def chip(self) -> Chip:
        return self.state.chip

    @property
    def gmem(self) -> Gmem:
        """DRAM by physical offset: `.write(addr, data)`, `.read(addr, nbytes)`."""
        return self.state.gmem

    @property
    def lmem(self) -> NDArray[np.uint8]:
        """Local memory, uint8 of shape (lanes, bytes a lane), writable in place."""
        return self.state.lmem

    @property
    def array_base(self) -> tuple[int, ...]:
        """The eight base registers that TDMA addresses count from."""
        return self.state.array_base

    @array_base.setter
    def array_base(self, bases: Sequence[int]) -> None:
        if len(bases) != NUM_BASE_REGS or any(not 0 <= int(b) < 1 << 64 for b in bases):
            raise UsageError(f"array_base must be {NUM_BASE_REGS} unsigned 64-bit integers, not {tuple(bases)!r}")
        self.state.array_base = tuple(int(b) for b in bases)

    def run_cmdbuf(self, data: bytes | bytearray | memoryview, array_base: Sequence[int] | None = None) -> None:
        """Runs a command buffer to its end. If `array_base` is given, it is written to the base registers first.

        The whole buffer is validated before any memory is written. Raises FileFormatError, IllegalInstruction,
        AddressError or Deadlock with the command's index, and UsageError for `array_base`."""
        before = self.array_base
        try:
            if array_base is not None:
                self.array_base = tuple(array_base)
            program = BoundProgram(self.state, each_instruction(parse_cmdbuf(self.chip, data)))
        except Exception:
            self.state.array_base = before
            raise
        program.run()

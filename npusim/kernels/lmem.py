"""Allocates LMEM as a stack, as cvikernel does: what was allocated last is freed first."""

from __future__ import annotations

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.mem.lmem import align_up


class LmemStack:
    """Offsets within a lane, the same in every lane. Addresses are on lane 0."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._used: list[tuple[int, int]] = []
        """(start, top before it) of every allocation."""
        self.top = 0
        self.high_water = 0

    @property
    def free_bytes(self) -> int:
        """Bytes of a lane that are not allocated."""
        return self._chip.lmem_bytes - self.top

    @property
    def bank_bytes(self) -> int:
        """Bytes of a bank.

        What one engine writes while the other reads should lie in different banks."""
        return self._chip.lmem_bytes // self._chip.num_lmem_banks

    def alloc(self, num_bytes: int, what: str, way_out: str, align: int = 16) -> int:
        """Start of `num_bytes` in every lane.

        Raises UsageError, which says how much is wanted, how much is free, and the way out."""
        num_bytes = align_up(max(num_bytes, 1), self._chip.eu_num)
        start = align_up(self.top, align)
        if start + num_bytes > self._chip.lmem_bytes:
            raise UsageError(
                f"{what} needs {num_bytes:,} bytes of LMEM a lane, but {self.free_bytes:,} of {self._chip.name}'s "
                f"{self._chip.lmem_bytes:,} are free; {way_out}"
            )
        self._used.append((start, self.top))
        self.top = start + num_bytes
        self.high_water = max(self.high_water, self.top)
        return start

    def free(self, addr: int) -> None:
        """Frees the allocation at `addr`, which must be the last one. Raises UsageError otherwise."""
        if not self._used or self._used[-1][0] != addr:
            last = f"the last one, at {self._used[-1][0]:#x}" if self._used else "none is allocated"
            raise UsageError(
                f"LMEM at {addr:#x} cannot be freed; tensors are freed in the reverse of their order, {last}"
            )
        self.top = self._used.pop()[1]

    def mark(self) -> int:
        """The number of allocations, for `release`."""
        return len(self._used)

    def release(self, mark: int) -> None:
        """Frees everything that was allocated since `mark`."""
        if len(self._used) > mark:
            self.top = self._used[mark][1]
            del self._used[mark:]

"""Allocation of LMEM as a stack, in cvikernel's order: what was allocated last is freed first."""

from __future__ import annotations

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.mem.lmem import align_up


class LmemStack:
    """Offsets within a lane; every lane has the same ones. Addresses are on lane 0."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._starts: list[int] = []
        self.top = 0
        self.high_water = 0

    @property
    def free_bytes(self) -> int:
        return self._chip.lmem_bytes - self.top

    def alloc(self, num_bytes: int, what: str, way_out: str) -> int:
        """Start of `num_bytes` in every lane. Raises UsageError that says how much is wanted, how much is free and the way out."""
        num_bytes = align_up(max(num_bytes, 1), self._chip.eu_num)
        if num_bytes > self.free_bytes:
            raise UsageError(
                f"{what} needs {num_bytes:,} bytes of LMEM a lane, but {self.free_bytes:,} of {self._chip.name}'s "
                f"{self._chip.lmem_bytes:,} are free; {way_out}"
            )
        start, self.top = self.top, self.top + num_bytes
        self._starts.append(start)
        self.high_water = max(self.high_water, self.top)
        return start

    def free(self, addr: int) -> None:
        if not self._starts or self._starts[-1] != addr:
            last = f"the last one, at {self._starts[-1]:#x}" if self._starts else "none is allocated"
            raise UsageError(f"LMEM at {addr:#x} cannot be freed; tensors are freed in the reverse of their order, {last}")
        self.top = self._starts.pop()

    def mark(self) -> int:
        """How many allocations there are, for `release`."""
        return len(self._starts)

    def release(self, mark: int) -> None:
        """Frees everything that was allocated since `mark`."""
        if len(self._starts) > mark:
            self.top = self._starts[mark]
            del self._starts[mark:]

"""The memory of a machine: LMEM, GMEM and the eight array base registers."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import AddressError, UsageError
from npusim.heap import keep_freed_memory
from npusim.numerics.last_made import LastMade
from npusim.numerics.vlc_kept import KeptStreams

NUM_BASE_REGS = 8
MOST_KEPT_BYTES = 64 << 20
"""The most memory that kept decoded weights may take."""


class Gmem:
    """DRAM as the TPU sees it, addressed by physical offset; all zeros at first.

    The operating system provides a page when it is first touched, so 4 GiB cost only what a program uses.
    """

    def __init__(self, num_bytes: int) -> None:
        reserve = getattr(mmap, "MAP_NORESERVE", 0)
        if reserve:
            self._map = mmap.mmap(-1, max(num_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | reserve)
        else:
            self._map = mmap.mmap(-1, max(num_bytes, 1))
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8, num_bytes)

    def __len__(self) -> int:
        return self.bytes.size

    def write(self, addr: int, data: bytes | bytearray | memoryview | NDArray) -> None:
        """Stores the bytes of `data`, an array or another buffer, from physical offset `addr` on. Raises AddressError
        if they do not fit GMEM."""
        raw = np.frombuffer(np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data, np.uint8)
        self._check(addr, raw.size)
        self.bytes[addr : addr + raw.size] = raw

    def read(self, addr: int, nbytes: int) -> bytes:
        """The `nbytes` bytes from physical offset `addr` on. Raises AddressError if they are not all in GMEM."""
        self._check(addr, nbytes)
        return self.bytes[addr : addr + nbytes].tobytes()

    def _check(self, addr: int, nbytes: int) -> None:
        if addr < 0 or nbytes < 0 or addr + nbytes > self.bytes.size:
            raise AddressError(
                f"the range [{addr:#x}, {addr + nbytes:#x}) is not inside GMEM, which has {self.bytes.size:#x} bytes"
            )


class State:
    """Memory of one machine. LMEM is one uint8 array of shape (lanes, bytes a lane)."""

    def __init__(self, chip: Chip, gmem_bytes: int | None = None) -> None:
        if gmem_bytes is not None and not 0 <= gmem_bytes <= chip.gmem_bytes:
            raise UsageError(f"gmem_bytes is {gmem_bytes}: give 0 to {chip.gmem_bytes}, which {chip.name} can address")
        keep_freed_memory()
        self.chip = chip
        self.lmem: NDArray[np.uint8] = np.zeros((chip.num_lanes, chip.lmem_bytes), np.uint8)
        self.gmem = Gmem(chip.gmem_bytes if gmem_bytes is None else gmem_bytes)
        self.array_base: tuple[int, ...] = (0,) * NUM_BASE_REGS
        self.lmem_tensors: dict[tuple, Any] = {}
        """Bound tensors by LocalTensor, kept by npusim.mem.lmem."""
        self.streams = KeptStreams(min(len(self.gmem), MOST_KEPT_BYTES))
        """Decoded weights. They take no more memory than GMEM has, which for a model is its memory map."""
        self.columns = LastMade()
        """An ifmap as the matrix that a convolution multiplies, since many follow one another on the same."""

    @property
    def lmem_flat(self) -> NDArray[np.uint8]:
        return self.lmem.reshape(-1)

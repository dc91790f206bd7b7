"""Where everything lies in GMEM, and whether it fits the board."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from npusim.board import MIB
from npusim.errors import NpusimError, UsageError
from npusim.mem.lmem import align_up

ALIGNMENT = 4096
"""Of a region: a page of the CPU, so that each can be flushed on its own."""


class DoesNotFit(NpusimError):
    """A model, its cache or one of its operators needs more memory than there is."""


@dataclass(frozen=True)
class Region:
    """`num_bytes` from offset `addr` of GMEM on."""

    name: str
    addr: int
    num_bytes: int
    what: str

    @property
    def end(self) -> int:
        return self.addr + self.num_bytes


@dataclass(frozen=True)
class MemoryMap:
    """Regions in ascending order, none overlapping; `base` is where the first may begin."""

    base: int
    regions: tuple[Region, ...]

    @property
    def num_bytes(self) -> int:
        """From the base to the last region's end: what has to be allocated in one piece."""
        return self.regions[-1].end - self.base if self.regions else 0

    @property
    def end(self) -> int:
        return self.base + self.num_bytes

    def __getitem__(self, name: str) -> Region:
        for region in self.regions:
            if region.name == name:
                return region
        raise UsageError(f"no region is called {name!r}; there are {', '.join(r.name for r in self.regions)}")


def lay_out_regions(sizes: Iterable[tuple[str, int, str]], base: int = 0) -> MemoryMap:
    """A map of (name, bytes, what) in that order, each at a multiple of ALIGNMENT behind `base`."""
    regions, at = [], align_up(base, ALIGNMENT)
    for name, num_bytes, what in sizes:
        regions.append(Region(name, at, num_bytes, what))
        at = align_up(at + num_bytes, ALIGNMENT)
    return MemoryMap(align_up(base, ALIGNMENT), tuple(regions))


def require_fit(memory: MemoryMap, command_bytes: int, budget_bytes: int, who: str) -> None:
    """Raises DoesNotFit with the numbers where the map and the command buffers exceed the board's ION memory."""
    needed = memory.num_bytes + command_bytes
    if needed <= budget_bytes:
        return
    parts = sorted(
        [*((r.name, r.num_bytes) for r in memory.regions), ("command buffers", command_bytes)],
        key=lambda part: -part[1],
    )
    largest = ", ".join(f"{name} {num_bytes / MIB:.1f}" for name, num_bytes in parts[:3])
    raise DoesNotFit(
        f"{who} needs {needed / MIB:.1f} MiB of the board's {budget_bytes / MIB:.1f} MiB of ION memory (MiB: "
        f"{largest}); "
        "use int8, a shorter context, a smaller model, or an image that reserves more of the board's memory (--ion)"
    )

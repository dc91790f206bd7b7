"""Regions of GMEM, and whether they fit the board."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from npusim.board import MIB
from npusim.errors import NpusimError, UsageError
from npusim.mem.lmem import align_up

ALIGNMENT = 4096
"""Alignment of a region: a page of the CPU, so that each region can be flushed alone."""


class DoesNotFit(NpusimError):
    """A model, its cache or one of its operators needs more memory than there is."""


@dataclass(frozen=True)
class IonRegion:
    """`num_bytes` bytes of GMEM from offset `addr` on, and in words what they hold."""

    name: str
    addr: int
    num_bytes: int
    what: str

    @property
    def end(self) -> int:
        return self.addr + self.num_bytes


@dataclass(frozen=True)
class MemoryMap:
    """Regions in ascending order from offset 0 on, which do not overlap."""

    regions: tuple[IonRegion, ...]

    @property
    def num_bytes(self) -> int:
        """The end of the last region: the size of the block that has to be allocated."""
        return self.regions[-1].end if self.regions else 0

    def __getitem__(self, name: str) -> IonRegion:
        for region in self.regions:
            if region.name == name:
                return region
        raise UsageError(f"no region is called {name!r}; there are {', '.join(r.name for r in self.regions)}")


def lay_out_regions(sizes: Iterable[tuple[str, int, str]]) -> MemoryMap:
    """A map with a region for each (name, bytes, what) of `sizes`, in that order, at multiples of ALIGNMENT."""
    regions: list[IonRegion] = []
    for name, num_bytes, what in sizes:
        at = align_up(regions[-1].end, ALIGNMENT) if regions else 0
        regions.append(IonRegion(name, at, num_bytes, what))
    return MemoryMap(tuple(regions))


def require_fit(memory: MemoryMap, command_bytes: int, budget_bytes: int, who: str) -> None:
    """Raises DoesNotFit, with the numbers, if the map and the command buffers need more than `budget_bytes` of ION
    memory. `who` is the subject of its message."""
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

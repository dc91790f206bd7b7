"""Where a program's memory lies in GMEM.

Base register 0 is memory that all programs share, 1 the weights, 2 the program's own memory, 3 to 7 one input or
output each. Source: createNeuronSpace and reserveIonMem in sophgo/cviruntime src/common/program.cpp, neuron.cpp."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from npusim.errors import FileFormatError
from npusim.loader.cvimodel_types import Cvimodel, Program, SectionType
from npusim.mem.lmem import align_up
from npusim.state import NUM_BASE_REGS

SHARED, WEIGHT, PRIVATE = 0, 1, 2
MAX_MAP_BYTES = 512 << 20
PAGE_BYTES = 4096
_OFFSET_BITS = 40


@dataclass(frozen=True)
class ModelMemory:
    """Start of each region as a physical GMEM offset, and the bytes that all of them need.

    The starts are what the base registers hold."""

    array_base: tuple[int, ...]
    num_bytes: int
    sizes: tuple[int, ...] = (0,) * NUM_BASE_REGS
    """Bytes of each region."""

    def address(self, offset: int) -> int:
        """The physical GMEM offset of `offset` in the file.

        Its bits 40 to 42 select the base register."""
        base_reg, inner = split_offset(offset)
        return self.array_base[base_reg] + inner


def split_offset(offset: int) -> tuple[int, int]:
    """(base register, offset from it) of an offset in a cvimodel."""
    return (offset >> _OFFSET_BITS) & (NUM_BASE_REGS - 1), offset & ((1 << _OFFSET_BITS) - 1)


def plan_memory(model: Cvimodel, program: Program, extents: Iterable[tuple[int, int]]) -> ModelMemory:
    """Lays out GMEM for `program`.

    `extents` are (offset, bytes) of its tensors and of the weights that CPU routines read. A region is as large as
    the file says, or larger where a tensor in it ends later. Raises FileFormatError where all regions together need
    more than 512 MiB, the most that a board of this family has."""
    sizes = [0] * NUM_BASE_REGS
    sizes[SHARED] = program.neuron_bytes or max(p.shared_bytes for p in model.programs)
    sizes[WEIGHT] = sum(s.num_bytes for s in model.sections if s.kind == SectionType.WEIGHT)
    sizes[PRIVATE] = program.neuron_bytes or program.private_bytes
    for offset, num_bytes in extents:
        base_reg, inner = split_offset(offset)
        sizes[base_reg] = max(sizes[base_reg], inner + num_bytes)
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += align_up(size, PAGE_BYTES)
    if end > MAX_MAP_BYTES:
        names = ("shared", "weights", "private", *(f"input or output {i}" for i in range(3, NUM_BASE_REGS)))
        parts = ", ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True) if size)
        raise FileFormatError(
            f"the model's memory map needs {end} bytes ({parts}), but at most {MAX_MAP_BYTES} are supported"
        )
    if program.neuron_bytes:
        starts[PRIVATE] = starts[SHARED]
    return ModelMemory(tuple(starts), end, tuple(sizes))

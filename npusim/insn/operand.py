"""What an instruction's operands are, said once a class; and what they touch, worked out for one descriptor.

Binding, footprints, LMEM spans, the builder's waits, the checker's rules and the manual all read these declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from npusim.chip import Chip
from npusim.mem.region import LMEM, Region
from npusim.mem.tensor import GlobalTensor, LocalTensor

Place = LocalTensor | GlobalTensor | Region


class Role(Enum):
    """What an instruction does with an operand."""

    READ = "read"
    WRITE = "write"
    ACCUMULATE = "accumulate"
    """Read where the result goes, which goes on from what is there."""


class Share(Enum):
    """Which part of an operand a part of the result depends on."""

    WHOLE = "everything"
    ELEMENT = "the same element"
    CHANNEL = "the same channel"
    WINDOW = "what lies under the window in the same channel"
    ROW = "the row of a matrix (n)"
    COLUMN = "the column of a matrix (c, h, w)"
    MOVED = "the element at the same place in order"


class Holds(Enum):
    """What an operand's bytes are to an instruction."""

    NUMBERS = "numbers of the tensor's format"
    BYTES = "bytes that are moved, of whatever format"
    RECORDS = "biases or quantisation records of channels"
    INDICES = "indices into a table of bf16"
    ENTRIES = "entries of a table of bf16, which are no indices"


class Operand(NamedTuple):
    """One operand of a class of instructions."""

    name: str
    """The prefix of its fields in a descriptor: opd0, opd1, opd2, res0; src or dst for the DMA."""
    role: Role
    what: str
    """What it is, in a few words, for the manual."""
    places: Callable[[Any], Sequence[Place]]
    """From an instruction to where the operand lies: one tensor, its planes or its pieces, or a run of bytes. Nothing
    where the descriptor has no such operand, as where a constant stands in its place."""
    share: Share = Share.WHOLE
    holds: Holds | Callable[[Any], Holds] = Holds.NUMBERS
    in_pieces: bool = False
    """Several tensors are neighbouring channels of one, and not planes of it."""
    at_most: bool = False
    """The bytes touched are some of these: a compressed stream says itself how long it is."""


class Access(NamedTuple):
    """What one instruction touches by one of its operands."""

    operand: Operand
    regions: tuple[Region, ...]
    tensors: tuple[LocalTensor, ...]
    """Where it lies in LMEM as elements: the same bytes as the regions there."""
    holds: Holds

    @property
    def name(self) -> str:
        return self.operand.name

    @property
    def num_bytes(self) -> int:
        return sum(region.num_bytes for region in self.regions)

    @property
    def element_bytes(self) -> int:
        """1 or 2 where the instruction takes what is there for elements of that size; 0 where they may be of any."""
        if not self.tensors or self.holds in (Holds.BYTES, Holds.INDICES):
            return 0
        return self.tensors[0].itemsize


class Footprint(NamedTuple):
    """Everything that an instruction reads and writes, from its descriptor alone."""

    reads: tuple[Access, ...]
    writes: tuple[Access, ...]


def access_of(instruction: Any, operand: Operand, places: Sequence[Place]) -> Access:
    """`operand` of `instruction`, which lies at `places`."""
    chip: Chip = instruction.chip
    regions: list[Region] = []
    for place in places:
        regions += place.regions(chip)
    holds = operand.holds if isinstance(operand.holds, Holds) else operand.holds(instruction)
    return Access(operand, tuple(regions), tuple(p for p in places if isinstance(p, LocalTensor)), holds)


def lmem_span(chip: Chip, operand: Operand, places: Sequence[Place]) -> tuple[int, int, int]:
    """(start, end, lanes): offsets within a lane between which an operand's bytes in LMEM lie, and how many lanes from
    lane 0 on it uses, more than the chip has where channels go round them. (0, 0, 0) where it has none."""
    start, end, lanes = chip.lmem_bytes, 0, 0
    for place in places:
        if isinstance(place, LocalTensor):
            lane0, first, last = place.reach(chip)
            channels = place.shape[1]
            lanes = lanes + channels if operand.in_pieces and lanes else max(lanes, lane0 + channels)
        elif isinstance(place, Region) and place.memory == LMEM:
            lane0, first = divmod(place.start, chip.lmem_bytes)
            last = first + place.run
            lanes = lane0 + -(-last // chip.lmem_bytes)
            if last > chip.lmem_bytes:  # it runs on through the lanes
                first, last = 0, chip.lmem_bytes
        else:
            continue
        start, end = min(start, first), max(end, last)
    return (start, end, lanes) if end else (0, 0, 0)

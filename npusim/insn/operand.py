"""Declarations of operands, once for each class of instructions, and the bytes that they are for one descriptor.

Binding, footprints, LMEM spans, the builder's waits, the checker's rules and the manual all use these declarations.
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
    """A sum that is read from the result's place and added to."""


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
    """What an instruction uses an operand's bytes as."""

    NUMBERS = "numbers of the tensor's format"
    BYTES = "bytes that are moved, of any format"
    RECORDS = "biases or quantisation records of channels"
    INDICES = "indices into a table of bf16"
    ENTRIES = "entries of a table of bf16, which are not indices"


class Operand(NamedTuple):
    """One operand of a class of instructions."""

    name: str
    """The prefix of its fields in a descriptor: opd0, opd1, opd2, res0; src or dst for the DMA."""
    role: Role
    what: str
    """A description in a few words, for the manual."""
    places: Callable[[Any], Sequence[Place]]
    """Gives where the operand of an instruction is: one tensor, its planes, its pieces, or a run of bytes. Empty if the
    descriptor does not have the operand, for example because a constant is given instead."""
    share: Share = Share.WHOLE
    holds: Holds | Callable[[Any], Holds] = Holds.NUMBERS
    in_pieces: bool = False
    """Several tensors are neighbouring channels of one tensor, not planes of it."""
    at_most: bool = False
    """Only some of these bytes may be touched: the length of a compressed stream is in the stream."""


class Access(NamedTuple):
    """The bytes of one operand of one instruction."""

    operand: Operand
    regions: tuple[Region, ...]
    tensors: tuple[LocalTensor, ...]
    """The operand's tensors in LMEM, which have the same bytes as its regions there."""
    holds: Holds

    @property
    def name(self) -> str:
        return self.operand.name

    @property
    def num_bytes(self) -> int:
        return sum(region.num_bytes for region in self.regions)

    @property
    def element_bytes(self) -> int:
        """Size of the elements that the instruction takes, 1 or 2; 0 if it takes any."""
        if not self.tensors or self.holds in (Holds.BYTES, Holds.INDICES):
            return 0
        return self.tensors[0].itemsize


class Footprint(NamedTuple):
    """Everything that an instruction reads and writes, which follows from its descriptor alone."""

    reads: tuple[Access, ...]
    writes: tuple[Access, ...]


def access_of(instruction: Any, operand: Operand, places: Sequence[Place]) -> Access:
    """The Access of `operand` of `instruction`, which is at `places`."""
    chip: Chip = instruction.chip
    regions: list[Region] = []
    for place in places:
        regions += place.regions(chip)
    holds = operand.holds if isinstance(operand.holds, Holds) else operand.holds(instruction)
    return Access(operand, tuple(regions), tuple(p for p in places if isinstance(p, LocalTensor)), holds)


def lmem_span(chip: Chip, operand: Operand, places: Sequence[Place]) -> tuple[int, int, int]:
    """(start, end, lanes) of an operand in LMEM: its bytes are at offsets start to end - 1 within a lane, and it uses
    `lanes` lanes from lane 0 on. That is more than the chip has if there are more channels than lanes. (0, 0, 0) if the
    operand has no bytes in LMEM."""
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
            if last > chip.lmem_bytes:  # it continues in the next lanes
                first, last = 0, chip.lmem_bytes
        else:
            continue
        start, end = min(start, first), max(end, last)
    return (start, end, lanes) if end else (0, 0, 0)

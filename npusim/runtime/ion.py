"""What a .cvimodel takes of the memory that the TPU's buffers come from (ION)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from npusim.board import BOARDS, Board
from npusim.loader.cvimodel_types import Cvimodel, TpuRoutine
from npusim.runtime.bind import map_of_program
from npusim.runtime.memory_map import PRIVATE, SHARED, WEIGHT


@dataclass(frozen=True)
class IonUse:
    """Bytes that the vendor's runtime allocates for one program of a file. Their sum is the ION column of the vendor's
    tables to all printed digits (sophgo/tdl_models README.md @2fc4768, 11 files)."""

    weights: int
    commands: int
    """Command buffers, unpacked."""
    shared: int
    """Activations; all programs share one such region."""
    private: int
    io: int
    """Inputs and outputs that have a base register of their own."""

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def boards(self, chip: str) -> dict[Board, bool]:
        """The boards with a chip of that name whose ION is known, and whether it holds this program alone."""
        return {board: self.total <= board.ion_bytes for board in BOARDS if board.chip.name == chip and board.ion_bytes}


def ion_use(model: Cvimodel, program: int = 0) -> IonUse:
    """What program number `program` of `model` takes. Raises FileFormatError where its memory map is too large."""
    one = model.programs[program]
    names = {routine.section for routine in one.routines if isinstance(routine, TpuRoutine)}
    sections = [model.section_named(name) for name in names]
    sizes = map_of_program(model, one).sizes
    return IonUse(
        weights=sizes[WEIGHT],
        commands=sum(section.decompressed_bytes or section.num_bytes for section in sections),
        shared=sizes[SHARED],
        private=0 if one.neuron_bytes else sizes[PRIVATE],
        io=sum(sizes[PRIVATE + 1 :]),
    )

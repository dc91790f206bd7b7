"""The parts of GMEM that a program may use, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Area:
    """A range of GMEM that a program may use. Areas may overlap: a byte has the properties of every area that holds
    it."""

    name: str
    base_reg: int
    start: int
    """Offset from the base register, in bytes."""
    num_bytes: int
    is_set: bool = False
    """It holds data before the program starts, as weights and inputs do."""
    is_writable: bool = True
    is_kept: bool = False
    """It is read when the program has ended, as outputs are."""
    is_whole: bool = False
    """The program should load all of it, as of a weight."""
    element_bytes: int = 0
    """Size of a weight's elements; 0 if they may have any size."""
    is_stored: bool = False
    """A tensor that the program stores."""

    @property
    def end(self) -> int:
        return self.start + self.num_bytes

    @property
    def is_tensor(self) -> bool:
        """Whether the area is one tensor, not memory for many."""
        return self.is_stored or self.is_kept or (self.is_set and self.is_writable)


EVERYTHING = Area("", 0, 0, 1 << 40)

"""What a program may use of GMEM, and what it finds there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Area:
    """A range of GMEM that a program may use, by its base register. Areas may lie in one another; what any of them says
    holds."""

    name: str
    base_reg: int
    start: int
    """Bytes behind the base register."""
    num_bytes: int
    is_set: bool = False
    """Holds data before the program starts: weights, inputs."""
    is_writable: bool = True
    is_kept: bool = False
    """Is looked at when the program has ended: outputs."""
    is_whole: bool = False
    """All of it is there to be read, as of a weight."""

    element_bytes: int = 0
    """Of the elements of a weight; 0 where they may be of any size."""
    is_stored: bool = False
    """A tensor that the program stores."""

    @property
    def end(self) -> int:
        return self.start + self.num_bytes

    @property
    def is_tensor(self) -> bool:
        """One tensor, and not memory for many."""
        return self.is_stored or self.is_kept or (self.is_set and self.is_writable)


EVERYTHING = Area("", 0, 0, 1 << 40)

"""npusim: what a program computes on a CVITEK CV18xx TPU, bit for bit, and how long it takes."""

from __future__ import annotations

from npusim.chip import CHIPS, Chip, chip_named
from npusim.errors import AddressError, Deadlock, FileFormatError, IllegalInstruction, NpusimError, UsageError
from npusim.runtime.model import Model
from npusim.sim import Machine

__version__ = "0.1.0"
__all__ = [
    "CHIPS",
    "AddressError",
    "Chip",
    "Deadlock",
    "FileFormatError",
    "IllegalInstruction",
    "Machine",
    "Model",
    "NpusimError",
    "UsageError",
    "chip_named",
]

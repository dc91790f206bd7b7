"""`replacing`: a file or a directory that is written whole or not at all."""

from __future__ import annotations

# Defined where it is because capture.py must also work alone, copied to a board.
from golden.capture import PARTIAL_SUFFIX, replacing

__all__ = ["PARTIAL_SUFFIX", "replacing"]

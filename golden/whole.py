"""`replacing`: a file or a directory that is written whole or not at all."""

from __future__ import annotations

# It is defined in capture.py because that file must also work alone, copied to a board.
from golden.capture import PARTIAL_SUFFIX, replacing

__all__ = ["PARTIAL_SUFFIX", "replacing"]

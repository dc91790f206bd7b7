"""The one error that a user of golden can cause. Our own mistakes are asserts, never this."""

from __future__ import annotations

# Defined where it is because capture.py must also work alone, copied to a board.
from golden.capture import GoldenError

__all__ = ["GoldenError"]

"""The error that a user of golden can cause. Mistakes of golden itself are failed asserts, never this error."""

from __future__ import annotations

# It is defined in capture.py because that file must also work alone, copied to a board.
from golden.capture import GoldenError

__all__ = ["GoldenError"]

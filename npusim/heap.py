"""Keeps the C library from returning memory that NumPy frees.

By default glibc gives large blocks back to the kernel and then has to get them again, page by page. In a program with
large temporary arrays that takes longer than the arithmetic."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt (glibc's malloc.h)."""
_KEPT_BYTES = 16 << 20


@cache
def keep_freed_memory() -> None:
    """Makes the process keep up to 16 MiB of freed memory for its next arrays.

    Does nothing if the C library has no mallopt."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        mallopt(parameter, _KEPT_BYTES)

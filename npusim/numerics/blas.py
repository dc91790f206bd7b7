"""NumPy's BLAS: how many threads it has, and which build it is.

Most products here are small. For them more threads gain nothing on an idle machine, and wait for each other for a long
time on a busy one. Sums in the chip's order need one thread in any case: others would not round toward zero."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ContextDecorator
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

_SPELLINGS = ("scipy_openblas_{}64_", "openblas_{}64_", "openblas_{}")
"""Of OpenBLAS's functions, in NumPy's wheels and elsewhere."""


class _OpenBlas(NamedTuple):
    """Calls of OpenBLAS that hold for the whole process."""

    num_threads: Callable[[], int]
    set_num_threads: Callable[[int], None]
    config: Callable[[], bytes]


@cache
def _openblas() -> _OpenBlas | None:
    """The OpenBLAS that NumPy is linked against; None for another BLAS, or where the system does not tell."""
    try:
        core = np._core if hasattr(np, "_core") else np.core  # NumPy 2 and 1
        library = ctypes.CDLL(core._multiarray_umath.__file__)
    except (AttributeError, OSError, TypeError):
        return None
    for spelling in _SPELLINGS:
        found: list[Any] = [
            getattr(library, spelling.format(name), None)
            for name in ("get_num_threads", "set_num_threads", "get_config")
        ]
        if all(found):
            found[2].restype = ctypes.c_char_p
            return _OpenBlas(*found)
    return None


def blas_build() -> str:
    """What OpenBLAS says of its version and of the processor that its kernels are for; "" for another BLAS."""
    blas = _openblas()
    return "" if blas is None else blas.config().decode(errors="replace")


class OneBlasThread(ContextDecorator):
    """Around a whole run, as `with one_blas_thread:` or as a decorator: OpenBLAS has one thread, whatever the
    environment says, and afterwards as many as before. Another BLAS keeps its threads.

    The number is one for the whole process. It is set when the first thread of Python's enters and put back when the
    last one leaves."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = self._changed_to(1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._changed_to(self._before)

    @staticmethod
    def _changed_to(num_threads: int) -> int:
        """How many there were."""
        blas = _openblas()
        if blas is None:
            return num_threads
        before = blas.num_threads()
        if before != num_threads:
            blas.set_num_threads(num_threads)
        return before


one_blas_thread = OneBlasThread()

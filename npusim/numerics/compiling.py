"""Compiles kernels with Numba, and keeps the compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from npusim.numerics.user_cache import private_folder

_FOLDER = private_folder("numba")
"""Where compiled code is kept: files that Numba trusts, so nobody else may write there."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled at its first call for each combination of types, or loaded from the user's cache folder."""
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(_FOLDER)
    try:
        kernel: Callable[..., Any] = numba.njit(function, cache=_FOLDER is not None, nogil=True)
    finally:
        config.CACHE_DIR = before
    return kernel


def is_kept() -> bool:
    """Whether the user's cache folder holds compiled code already."""
    return _FOLDER is not None and any(_FOLDER.rglob("*.nbi"))

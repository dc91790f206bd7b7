"""Which code runs the heavy kernels: NumPy's, or the same compiled by Numba (the extra `fast`).

A function marked with `@kernel` is the reference. `compiled` holds functions of the same names that give the same bits,
or decline what they were not made for. Importing compiled code takes part of a second, and making it takes seconds the
first time. So a process takes it up once it has executed programs for PAYS_AFTER seconds. The environment variable
NPUSIM_BACKEND says otherwise: `numpy` never takes it, `numba` takes it at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

PAYS_AFTER = 2.0
"""Seconds of execution in NumPy after which compiled code is used."""
DECLINED: Any = NotImplemented
"""A compiled function returns this for arguments that it leaves to NumPy."""
BACKENDS = ("auto", "numpy", "numba")

_compiled: dict[str, Callable[..., Any]] = {}
"""Compiled functions by their references' names; none while NumPy runs everything."""


def kernel(reference: Callable[P, R]) -> Callable[P, R]:
    """Marks a function for which there may be a compiled one with the same name and the same results."""
    name = reference.__name__

    @wraps(reference)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        compiled = _compiled.get(name)
        if compiled is not None:
            result: R = compiled(*args, **kwargs)
            if result is not DECLINED:
                return result
        return reference(*args, **kwargs)

    return call


def backend_in_use() -> str:
    """The backend in use: `numba` or `numpy`."""
    return "numba" if _compiled else "numpy"


def use_backend(name: str) -> None:
    """Takes `numba` or `numpy` from now on, whatever the environment says.

    Raises ValueError for another name, and where Numba is not installed."""
    if name not in BACKENDS[1:]:
        raise ValueError(f"backend {name!r} is not known; known are {', '.join(BACKENDS)} (NPUSIM_BACKEND)")
    if name == "numpy":
        _compiled.clear()
        chooser.is_open = False
        return
    if find_spec("numba") is None:
        raise ValueError("the backend numba needs Numba, which is not installed; pip install 'npusim[fast]'")
    from npusim.numerics.compiled import KERNELS
    from npusim.numerics.compiling import is_kept

    if not is_kept():
        import logging

        logging.getLogger(__name__).warning("compiling kernels for this processor: once, some 10 seconds")
    _compiled.update(KERNELS)
    chooser.is_open = False


class _Chooser:
    """Decides once a process whether compiled code pays, unless `use_backend` was called."""

    def __init__(self) -> None:
        self._spent = 0.0
        self.is_open = True

    def before_run(self) -> float:
        """The time on the clock; call it in front of every run of a program, and `after_run` behind it. Raises what
        `use_backend` raises."""
        if self.is_open:
            self._decide()
        return perf_counter()

    def after_run(self, start: float) -> None:
        self._spent += perf_counter() - start

    def _decide(self) -> None:
        wanted = os.environ.get("NPUSIM_BACKEND") or "auto"
        if wanted == "auto":
            if self._spent < PAYS_AFTER:
                return
            wanted = "numpy" if find_spec("numba") is None else "numba"
        use_backend(wanted)
        self.is_open = False


chooser = _Chooser()
"""This process's."""

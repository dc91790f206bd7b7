"""Measures CPU time, which other work on the machine disturbs least. Benchmarks compare no other time.

Sides that are compared take turns in one run, so that a slow minute slows all of them. The result is the median of the
turns, or the ratio of two medians."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.claim import CannotRun

Timer = Callable[[], float]
"""Does the work once and returns the CPU seconds that it took."""


def timed(call: Callable[[], object]) -> Timer:
    """A timer of `call` in this process, with all its threads together."""

    def timer() -> float:
        started = time.process_time()
        call()
        return time.process_time() - started

    return timer


def median_seconds(call: Callable[[], object], turns: int = 5) -> float:
    """Median CPU seconds of `call`, after one call that does not count."""
    return take_turns({"": timed(call)}, turns).median("")


@dataclass(frozen=True)
class Turns:
    """CPU seconds of each side in each turn: float64 [turns]."""

    seconds: dict[str, NDArray[np.float64]]

    def median(self, side: str) -> float:
        return float(np.median(self.seconds[side]))

    def ratio(self, side: str, peer: str) -> float:
        """The time of `side` divided by the time of `peer`."""
        return self.median(side) / self.median(peer)


def take_turns(sides: Mapping[str, Timer], turns: int, warm: int = 1) -> Turns:
    """Runs all sides in turn, `turns` times. `warm` more turns come first and do not count."""
    seconds = np.array([[timer() for timer in sides.values()] for _ in range(warm + turns)])
    return Turns(dict(zip(sides, seconds[warm:].T, strict=True)))


class Side:
    """A side in a process of its own, so that sides do not share memory, threads or output.

    `make` is a module's function. It is called with `given` in the new process and returns functions by name, which
    the process can call. Use it in a `with` statement, which ends the process."""

    def __init__(self, make: Callable[..., Mapping[str, Callable[[], Any]]], *given: object) -> None:
        context = mp.get_context("spawn")
        self._name = make.__name__
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, given), daemon=True)
        self._process.start()
        there.close()  # so that waiting for a process that fails ends

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()
        self._process.join(10)
        self._process.kill()

    def timer(self, name: str) -> Timer:
        """A timer of the function `name` in the process."""
        return lambda: self._ask(name)[0]

    def value(self, name: str) -> Any:
        """The result of the function `name` in the process."""
        return self._ask(name)[1]

    def _ask(self, name: str) -> tuple[float, Any]:
        """(CPU seconds, result) of the function `name`. Raises CannotRun if the process has ended."""
        try:
            self._pipe.send(name)
            seconds, value = self._pipe.recv()
        except (EOFError, OSError):
            raise CannotRun(f"the process of {self._name} ended; if it printed an error, that is above") from None
        return seconds, value


def _serve(pipe: Connection, make: Callable[..., Mapping[str, Callable[[], Any]]], given: tuple[object, ...]) -> None:
    calls = make(*given)
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            os._exit(0)  # without cleaning up, in which a library that a side has loaded may crash
        started = time.process_time()
        value = calls[name]()
        pipe.send((time.process_time() - started, value))

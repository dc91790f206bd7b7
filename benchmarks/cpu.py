"""CPU time, the only time that benchmarks compare: other work on the machine disturbs it least.

Sides that are compared take turns in one run, so that a slow minute hits all of them; what counts is the median of the
turns, and the ratio of two medians."""

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
    """A timer of `call` in this process, all its threads together."""

    def timer() -> float:
        started = time.process_time()
        call()
        return time.process_time() - started

    return timer


def median_seconds(call: Callable[[], object], turns: int = 5) -> float:
    """Median CPU seconds of `call`, behind one that does not count."""
    return take_turns({"": timed(call)}, turns).median("")


@dataclass(frozen=True)
class Turns:
    """CPU seconds of each side in each turn: float64 [turns]."""

    seconds: dict[str, NDArray[np.float64]]

    def median(self, side: str) -> float:
        return float(np.median(self.seconds[side]))

    def ratio(self, side: str, peer: str) -> float:
        """How many times as long as `peer` `side` takes."""
        return self.median(side) / self.median(peer)


def take_turns(sides: Mapping[str, Timer], turns: int, warm: int = 1) -> Turns:
    """Lets each side work once a turn, one behind the other; `warm` turns in front do not count."""
    seconds = np.array([[timer() for timer in sides.values()] for _ in range(warm + turns)])
    return Turns(dict(zip(sides, seconds[warm:].T, strict=True)))


class Side:
    """A side in a process of its own: neither sees the memory, the threads or the output of the other.

    `make` is a function of a module; called with `given` in the new process, it returns what that process can do by
    name. Used with `with`, because the process ends with it."""

    def __init__(self, make: Callable[..., Mapping[str, Callable[[], Any]]], *given: object) -> None:
        context = mp.get_context("spawn")
        self._name = make.__name__
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, given), daemon=True)
        self._process.start()
        there.close()  # so that a process that fails ends the wait

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()
        self._process.join(10)
        self._process.kill()

    def timer(self, name: str) -> Timer:
        """A timer of what the process calls `name`."""
        return lambda: self._ask(name)[0]

    def value(self, name: str) -> Any:
        """What the process returns for `name`."""
        return self._ask(name)[1]

    def _ask(self, name: str) -> tuple[float, Any]:
        """Raises CannotRun where the process has ended."""
        try:
            self._pipe.send(name)
            seconds, value = self._pipe.recv()
        except (EOFError, OSError):
            raise CannotRun(f"the process of {self._name} ended; its error stands above, if it could say one") from None
        return seconds, value


def _serve(pipe: Connection, make: Callable[..., Mapping[str, Callable[[], Any]]], given: tuple[object, ...]) -> None:
    calls = make(*given)
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            os._exit(0)  # libraries that a side has loaded may not end well
        started = time.process_time()
        value = calls[name]()
        pipe.send((time.process_time() - started, value))

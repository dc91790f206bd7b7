"""Keeps the outcomes of trials of this machine's BLAS between processes. A network of bf16 convolutions has dozens of
matrix shapes, and trying them takes a fifth of its first run."""

from __future__ import annotations

import atexit
import hashlib
import json
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from npusim.numerics.blas import blas_build
from npusim.numerics.user_cache import cache_directory, keep, read_kept

TRIAL = 2
"""Raise this when what is tried changes: outcomes of older trials are then not read."""
MOST_OUTCOMES = 4096


class Trials:
    """Outcomes by shape, of one BLAS on one processor.

    path       file in which they are kept; None: they are not kept
    identity   the BLAS and the processor; outcomes of others are not read
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path, self._identity = path, identity
        self._outcomes = self._read()
        self._new: dict[str, bool] = {}

    def outcome(self, shape: str, tried: Callable[[], bool]) -> bool:
        """The outcome for `shape`, which is tried if it is not known."""
        if shape not in self._outcomes:
            self._outcomes[shape] = self._new[shape] = tried()
        return self._outcomes[shape]

    def save(self) -> None:
        """Adds new outcomes to those that are kept by now."""
        if self._path is not None and self._new:
            outcomes = dict(list((self._read() | self._new).items())[-MOST_OUTCOMES:])
            keep(self._path, json.dumps({"of": self._identity, "outcomes": outcomes}).encode())
            self._new = {}

    def _read(self) -> dict[str, bool]:
        data = read_kept(self._path) if self._path is not None else None
        if data is None:
            return {}
        try:
            kept = json.loads(data)
            outcomes = dict(kept["outcomes"]) if kept["of"] == self._identity else {}
        except (ValueError, KeyError, TypeError):
            return {}
        return outcomes if all(type(outcome) is bool for outcome in outcomes.values()) else {}


@cache
def trials() -> Trials:
    """Those of this process, which are saved when it ends."""
    if not blas_build():  # nothing tells this BLAS from another one
        return Trials(None, "")
    identity = f"trial {TRIAL}; NumPy {np.__version__}; {blas_build()}; {_processor()}"
    name = f"blas-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    try:
        found = Trials(cache_directory() / name, identity)
    except RuntimeError:  # the user has no home
        return Trials(None, identity)
    atexit.register(found.save)
    return found


def _processor() -> str:
    """The processor's name and cache sizes, which BLAS chooses its block sizes by."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except (OSError, IndexError):
        return f"{platform.machine()} {platform.processor()}"
    told = (line for line in lines if line.startswith(("model name", "cache size", "CPU part", "CPU implementer")))
    return ", ".join(" ".join(line.split()) for line in told)

"""A policy of a user's own, from a Python file: FILE.py:CLASS."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import getsourcelines
from pathlib import Path
from types import ModuleType

import numpy as np

from kv.arrays import BoolArray, FloatArray
from kv.errors import KVError
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit
from kv.policies.wrapper import WrappedState, Wrapper


def policy_from_file(path: Path, class_name: str) -> Policy:
    """The policy of this name in a file, with its own defaults. The file's code is run.

    Raises KVError if the file cannot be read, if it fails (the message names the line) or if it has no such policy."""
    module = _module(path)
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Policy)):
        names = [name for name, value in vars(module).items() if _is_own(value, module)]
        raise KVError(f"{path} has no policy {class_name!r}: it has {', '.join(names) or 'none'}")
    with _naming_the_line(path, class_name):
        return FromFile(found(), path)


def _is_own(value: object, module: ModuleType) -> bool:
    return isinstance(value, type) and issubclass(value, Policy) and value.__module__ == module.__name__


def _module(path: Path) -> ModuleType:
    """The file as a module. A process runs it once, and again if the file has changed."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KVError(f"cannot read the policy {path}: {error.strerror or error}") from None
    name = f"policy_{hashlib.sha256(bytes(path.resolve()) + data).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the names in a class's annotations
    try:
        with _naming_the_line(path, "the file"):
            spec.loader.exec_module(module)
    except KVError:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _naming_the_line(path: Path, what: str) -> Iterator[None]:
    """Any failure as a KVError that names the last line of the file that was run."""
    try:
        yield
    except KVError:
        raise
    except Exception as error:
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line = error.lineno
        else:
            own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
            line = own[-1].lineno if own else None
        at = f"line {line} of {path}" if line else str(path)
        raise KVError(f"{what} failed in {at}: {type(error).__name__}: {error}") from error


class FromFileState(WrappedState):
    """Adds the line to errors, and refuses scores that are not valid."""

    def __init__(self, base: State, path: Path, unit: Unit) -> None:
        super().__init__(base)
        self._path, self._unit = path, unit

    def append(self, start: int, keys: FloatArray) -> None:
        with _naming_the_line(self._path, "append"):
            super().append(start, keys)

    def prefill(self, q: FloatArray) -> None:
        with _naming_the_line(self._path, "prefill"):
            super().prefill(q)

    def observe(self, weights: FloatArray) -> None:
        with _naming_the_line(self._path, "observe"):
            super().observe(weights)

    def learn(self, read_keys: ReadKeys) -> None:
        with _naming_the_line(self._path, "learn"):
            super().learn(read_keys)

    def chosen(self, kept: BoolArray) -> None:
        with _naming_the_line(self._path, "chosen"):
            super().chosen(kept)

    def truncate(self, length: int, read_keys: ReadKeys) -> None:
        with _naming_the_line(self._path, "truncate"):
            super().truncate(length, read_keys)

    def scores(self, q: FloatArray, read_keys: ReadKeys) -> FloatArray:
        with _naming_the_line(self._path, "scores"):
            scores = super().scores(q, read_keys)
        self._check(scores)
        return scores

    def _check(self, scores: object) -> None:
        """Refuses anything but a float array [rows, units]."""
        g, where = self.geometry, f"scores, line {getsourcelines(type(self.base).scores)[1]} of {self._path},"
        rows = dict.fromkeys((1, g.num_kv_heads, g.num_q_heads))
        shapes = [(count, -(-self.length // self.context.unit_tokens(self._unit))) for count in rows]
        if not isinstance(scores, np.ndarray) or scores.shape not in shapes:
            found = scores.shape if isinstance(scores, np.ndarray) else type(scores).__name__
            raise KVError(f"{where} gives {found}: it must give an array of {' or '.join(map(str, shapes))}")
        if scores.dtype.kind != "f" or np.isnan(scores).any():
            fault = "NaN" if scores.dtype.kind == "f" else scores.dtype
            raise KVError(f"{where} gives {fault}: it must give floats, none of them NaN")


@dataclass(frozen=True)
class FromFile(Wrapper):
    """A policy from a file: what it does wrong is said in a sentence with the line."""

    base: Policy
    path: Path

    def start(self, context: LayerContext) -> State:
        with _naming_the_line(self.path, "start"):
            state = self.base.start(context)
        if not isinstance(state, State):
            raise KVError(f"start of {self.name} in {self.path} gives {type(state).__name__}: it must give a State")
        return FromFileState(state, self.path, self.unit)

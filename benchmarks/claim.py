"""Claims about this project that a measurement can refute, and what the measurements need."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of a BLAS's threads."""

Say = Callable[[str], None]
"""Prints a line of detail."""


class CannotRun(Exception):
    """A benchmark does not have something that it needs. The message is a sentence that says what to do."""


class Need(Protocol):
    """Something that is not in the repository."""

    @property
    def text(self) -> str:
        """The need in a few words."""

    @property
    def how(self) -> str:
        """How it is met."""

    def missing(self) -> str | None:
        """A sentence that says what to do, or None if the need is met."""


@dataclass(frozen=True)
class PathNeed:
    """A file or folder that an environment variable names; `what` says what it is and where to get it."""

    variable: str
    what: str

    @property
    def text(self) -> str:
        return f"`{self.variable}`"

    @property
    def how(self) -> str:
        return f"set it to {self.what}"

    def missing(self) -> str | None:
        value = os.environ.get(self.variable)
        if not value:
            return f"{self.variable} is not set: {self.how}"
        if not Path(value).exists():
            return f"{self.variable} is {value}, which does not exist: {self.how}"
        return None

    def path(self) -> Path:
        """The path. Raises CannotRun if the need is not met."""
        if sentence := self.missing():
            raise CannotRun(sentence)
        return Path(os.environ[self.variable])


@dataclass(frozen=True)
class ModuleNeed:
    """A Python module, which pip installs as `package`."""

    module: str
    package: str

    @property
    def text(self) -> str:
        return self.package

    @property
    def how(self) -> str:
        return f"`pip install {self.package}`"

    def missing(self) -> str | None:
        if importlib.util.find_spec(self.module):
            return None
        return f"the module {self.module} is not installed: {self.how}"


@dataclass(frozen=True)
class ModelNeed:
    """A language model that `npusim model fetch` downloads."""

    name: str

    @property
    def text(self) -> str:
        return self.name

    @property
    def how(self) -> str:
        return f"`npusim model fetch {self.name}`"

    def missing(self) -> str | None:
        from reference_model.fetch import target_path

        if target_path(self.name).is_file():
            return None
        return f"{self.name} is not on this machine: {self.how}"


@dataclass(frozen=True)
class Claim:
    """A claim, and the bound that its figure has to meet.

    `name` is "FILE.FUNCTION": the function in benchmarks/FILE.py measures the figure. It takes a `Say` and returns a
    number in `unit`. It is imported only when it is measured. `better` says whether a lower or a higher figure is
    better; the bound itself meets the claim."""

    name: str
    claim: str
    bound: float
    unit: str
    better: Literal["lower", "higher"]
    needs: tuple[Need, ...] = ()

    @property
    def file(self) -> str:
        return self.name.partition(".")[0]

    @property
    def command(self) -> str:
        return f"python -m benchmarks {self.name}"

    @property
    def bound_text(self) -> str:
        return f"at {'most' if self.better == 'lower' else 'least'} {number(self.bound)} {self.unit}"

    def is_met(self, figure: float) -> bool:
        return figure <= self.bound if self.better == "lower" else figure >= self.bound

    def missing(self) -> str | None:
        """The first unmet need as a sentence."""
        return next((sentence for need in self.needs if (sentence := need.missing())), None)

    def measure(self, say: Say) -> float:
        """Measures the figure. Raises CannotRun if something is missing."""
        if sentence := self.missing():
            raise CannotRun(sentence)
        return float(self.function()(say))

    def function(self) -> Callable[[Say], float]:
        file, _, function = self.name.partition(".")
        found: Callable[[Say], float] = getattr(import_module(f"benchmarks.{file}"), function)
        return found


def number(value: float) -> str:
    """A number as text: with five digits, or all digits of a larger whole number."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.5g}"

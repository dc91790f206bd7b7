"""Tolerances of a comparison: a number, a pair of similarities, or one of these for each tensor.

A number is the largest absolute error that an element may have; with 0, tensors must be equal. A pair, such as
"0.99,0.9", is what the vendor's npz_tool takes: cosine and Euclidean similarity must both be greater
(sophgo/tpu-mlir, python/numpy_helper/npz_compare.py)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from golden.errors import GoldenError


@dataclass(frozen=True)
class Similarity:
    """Cosine and Euclidean similarity, each at most 1, that a tensor must exceed to be SIMILAR."""

    cosine: float
    euclidean: float

    def __post_init__(self) -> None:
        for name, value in (("cosine", self.cosine), ("Euclidean", self.euclidean)):
            if not (math.isfinite(value) and value <= 1):
                raise GoldenError(f"tolerance has {name} similarity {value}: it must be a finite number of at most 1")

    def __str__(self) -> str:
        return f"{self.cosine:.12g},{self.euclidean:.12g}"


Tolerance = float | Similarity
"""A number (largest absolute error) or a Similarity."""

VENDOR_DEFAULT = Similarity(0.99, 0.99)
"""The default of the vendor's npz_tool compare."""


def as_tolerance(value: Any) -> Tolerance:
    """A tolerance from a number, a pair of numbers, a Similarity, or text: "0.01" or "0.99,0.9".

    Raises GoldenError."""
    if isinstance(value, Similarity):
        return value
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, tuple | list) else [value]
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) == 2:
        return Similarity(*numbers)
    if len(numbers) == 1 and math.isfinite(numbers[0]) and numbers[0] >= 0:
        return float(numbers[0])
    raise GoldenError(
        f"tolerance {value!r} is neither a number from 0 up (largest absolute error) nor cosine and Euclidean "
        "similarity as in 0.99,0.9"
    )


@dataclass(frozen=True)
class Tolerances:
    """The tolerance of each tensor. `by_name` holds the exceptions; `default` is for all others."""

    default: Tolerance = VENDOR_DEFAULT
    by_name: Mapping[str, Tolerance] = field(default_factory=dict)

    @staticmethod
    def of(value: Any) -> Tolerances:
        """Tolerances from anything that as_tolerance takes, or from a mapping of tensor names to such.

        The name "" in the mapping is the default."""
        if isinstance(value, Tolerances):
            return value
        if not isinstance(value, Mapping):
            return Tolerances(as_tolerance(value))
        by_name = {name: as_tolerance(entry) for name, entry in value.items()}
        default = by_name.pop("", VENDOR_DEFAULT)
        return Tolerances(default, by_name)

    def __getitem__(self, name: str) -> Tolerance:
        return self.by_name.get(name, self.default)

    def unknown(self, names: Iterable[str]) -> tuple[str, ...]:
        """Names that have a tolerance of their own but are not in `names`. They are probably misspelt."""
        known = set(names)
        return tuple(name for name in self.by_name if name not in known)


def smallest_passing(cosine: float, euclidean: float) -> Similarity:
    """The strictest pair that the two similarities still exceed, with six decimals if these are enough."""
    return Similarity(_just_below(cosine), _just_below(euclidean))


def _just_below(value: float) -> float:
    for rounded in (math.floor(min(max(value, -1e9), 1e9) * 1e6) / 1e6, round(value - 1e-6, 6)):
        if value - 2e-6 < rounded < value:
            return rounded
    return math.nextafter(value, -math.inf)

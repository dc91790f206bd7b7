"""The result of a comparison, as data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from html import escape
from typing import Any

from golden.tolerance import Similarity, Tolerance


class Verdict(str, Enum):
    """How a tensor compared, in the words of the vendor's npz_tool (sophgo/tpu-mlir, tensor_compare.py, which spells
    the fifth NOT_SIMLIAR)."""

    EQUAL = "EQUAL"
    """Every element is the same number."""
    CLOSE = "CLOSE"
    """Every error is at most 1e-8 + 0.001 |reference|; with a number as tolerance, at most that number."""
    SIMILAR = "SIMILAR"
    """Both similarities exceed the tolerance."""
    NOT_EQUAL = "NOT_EQUAL"
    """Integers are not equal; or with a number as tolerance, an error is larger."""
    NOT_SIMILAR = "NOT_SIMILAR"
    """A similarity does not exceed the tolerance, or an element is NaN or an infinity that may not match."""
    NOT_MATCH = "NOT_MATCH"
    """The shapes differ, so nothing was compared."""

    def __str__(self) -> str:
        return self.value

    @property
    def passed(self) -> bool:
        """Whether the tensor is good enough: EQUAL, CLOSE or SIMILAR."""
        return self in (Verdict.EQUAL, Verdict.CLOSE, Verdict.SIMILAR)


@dataclass(frozen=True)
class Summary:
    """Statistics of one side of a comparison. Range, mean and deviation are those of the finite elements; None if there
    are none."""

    shape: tuple[int, ...]
    dtype: str
    num_nan: int
    num_inf: int
    min: float | None
    max: float | None
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class Errors:
    """Errors of the elements that can be subtracted: all except NaN and infinities.

    `max_ulp` is None unless both sides are bf16, float16 or float32. `num_bits_differ` counts elements with different
    bits, even if they are equal numbers (-0.0 and 0.0); it is None unless both sides have the same format.
    `worst_index` is the index in the target of the first element that cannot match, or else of the largest error."""

    num_elements: int
    num_mismatches: int
    num_unmatchable: int
    num_bits_differ: int | None
    cosine: float
    euclidean: float
    sqnr_db: float
    max_abs: float
    max_rel: float
    max_ulp: int | None
    worst_index: tuple[int, ...] | None
    worst_target: float | None
    worst_reference: float | None

    def __str__(self) -> str:
        at = "" if self.worst_index is None else f" at {self.worst_index}"
        worst = f"largest difference {self.max_abs:.6g}"
        worst = f"{worst}, cannot match{at}" if self.num_unmatchable else worst + at
        return f"cosine {self.cosine:.6f}, Euclidean {self.euclidean:.6f}, {worst}"


@dataclass(frozen=True)
class TensorResult:
    """How one tensor compared. `errors` is None if the shapes differ.

    `smallest_tolerance` is the strictest tolerance with which the tensor would pass, of the kind that was used (a
    number if integers had to be equal); None if there is none. `note` says in words what the verdict does not."""

    name: str
    verdict: Verdict
    tolerance: Tolerance
    smallest_tolerance: Tolerance | None
    target: Summary
    reference: Summary
    errors: Errors | None
    note: str = ""

    def __bool__(self) -> bool:
        return self.verdict.passed

    def __repr__(self) -> str:
        found = f": {self.note}" if self.errors is None else f", {self.errors}"
        return f"<{self.name}: {self.verdict}{found}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain data that json.dumps(..., allow_nan=False) takes.

        Infinities and NaN are the texts "inf", "-inf", "nan"."""
        found: dict[str, Any] = plain(asdict(self) | {"passed": bool(self)})
        return found


@dataclass(frozen=True)
class ComparisonResult:
    """How two sets of tensors compared, in the reference's order.

    It is true if at least one tensor was compared and all passed."""

    tensors: tuple[TensorResult, ...]
    only_in_target: tuple[str, ...]
    only_in_reference: tuple[str, ...]
    excepted: tuple[str, ...]
    unknown_names: tuple[str, ...]
    """Names with a tolerance or in `excepts` that are not names of a tensor on both sides."""

    def __bool__(self) -> bool:
        return bool(self.tensors) and all(self.tensors)

    def __repr__(self) -> str:
        return f"<ComparisonResult: {self.message}>"

    def _repr_html_(self) -> str:
        columns = ("tensor", "shape", "verdict", "cosine", "Euclidean", "largest difference")
        head = "".join(f"<th>{column}</th>" for column in columns)
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in _cells(tensor)) for tensor in self.tensors)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<p>{escape(self.message)}</p><table><tr>{head}</tr>{body}</table>"

    def __getitem__(self, name: str) -> TensorResult:
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    @property
    def failed(self) -> tuple[TensorResult, ...]:
        """The tensors that did not pass."""
        return tuple(tensor for tensor in self.tensors if not tensor)

    @property
    def counts(self) -> dict[Verdict, int]:
        """Number of tensors with each verdict, zeros included."""
        found = Counter(tensor.verdict for tensor in self.tensors)
        return {verdict: found[verdict] for verdict in Verdict}

    @property
    def smallest_tolerance(self) -> Tolerance | None:
        """The strictest single tolerance with which all tensors would pass; None if there is none."""
        smallest = [tensor.smallest_tolerance for tensor in self.tensors]
        if not smallest or None in smallest:
            return None
        pairs = [tolerance for tolerance in smallest if isinstance(tolerance, Similarity)]
        if len(pairs) == len(smallest):
            return Similarity(min(pair.cosine for pair in pairs), min(pair.euclidean for pair in pairs))
        return max(tensor.errors.max_abs for tensor in self.tensors if tensor.errors)

    @property
    def message(self) -> str:
        """One sentence: the counts of each verdict; or why nothing could be compared, with the names of both sides."""
        if not self.tensors:
            excepted = f" once {_names(self.excepted)} is excepted" if self.excepted else ""
            return (
                f"nothing in common{excepted}: the target has {_names(self.only_in_target)}, "
                f"the reference has {_names(self.only_in_reference)}; tensors are matched by name"
            )
        words = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items() if count)
        return f"{len(self.tensors)} compared, {len(self.failed)} failed: {words}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data that json.dumps(..., allow_nan=False) takes."""
        own: dict[str, Any] = plain(
            {
                "passed": bool(self),
                "message": self.message,
                "counts": {str(verdict): count for verdict, count in self.counts.items()},
                "smallest_tolerance": _tolerance_dict(self.smallest_tolerance),
                "only_in_target": self.only_in_target,
                "only_in_reference": self.only_in_reference,
                "excepted": self.excepted,
                "unknown_names": self.unknown_names,
            }
        )
        return own | {"tensors": [tensor.to_dict() for tensor in self.tensors]}


def _cells(tensor: TensorResult) -> tuple[str, ...]:
    known = (tensor.name, "x".join(map(str, tensor.reference.shape)), str(tensor.verdict))
    errors = tensor.errors
    if errors is None:
        return (*known, "", "", tensor.note)
    return (*known, f"{errors.cosine:.6f}", f"{errors.euclidean:.6f}", f"{errors.max_abs:.6g}")


def _tolerance_dict(tolerance: Tolerance | None) -> Any:
    return asdict(tolerance) if isinstance(tolerance, Similarity) else tolerance


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "no tensors"


def plain(value: Any) -> Any:
    """`value` as data that json.dumps(..., allow_nan=False) takes: infinities and NaN become texts."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Verdict) else value

"""Compares tensors of a target with a reference, and says how far apart each pair is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden import metrics
from golden.errors import GoldenError
from golden.result import ComparisonResult, Errors, Summary, TensorResult, Verdict
from golden.tolerance import VENDOR_DEFAULT, Similarity, Tolerance, Tolerances, smallest_passing
from golden.values import Array, as_float64, as_values, is_integer, num_bits_differ


def compare(
    target: Mapping[str, Array],
    reference: Mapping[str, Array],
    tolerance: Any = VENDOR_DEFAULT,
    *,
    excepts: Collection[str] = (),
    integers_equal: bool = True,
    infinities_match: bool = False,
    on_tensor: Callable[[TensorResult], object] | None = None,
) -> ComparisonResult:
    """Compares the tensors that both sides have, by name, in the reference's order.

    `tolerance` is anything that golden.tolerance.Tolerances.of takes: a number, a pair (cosine, euclidean), text such
    as "0.99,0.9", or a mapping of names to these with "" as its default. uint16 arrays are bf16 patterns. `on_tensor`
    is called with each result as it is found, for a progress bar.

    It differs from the vendor's npz_tool in cases in which that hides a difference. NaN never matches. Infinities match
    only with `infinities_match`, and then only the same infinity at the same place. Shapes that differ by more than
    axes of length 1 are NOT_MATCH. Floats are not truncated to int8 first. All integer types must be equal unless
    `integers_equal` is False (in npz_tool only int8 must be). Comparing nothing is a failure.

    Raises GoldenError for an impossible tolerance or dtype, never for tensors that differ."""
    tolerances = Tolerances.of(tolerance)
    rules = _Rules(integers_equal, infinities_match)
    common = set(target) & set(reference)
    tensors = []
    for name in (name for name in reference if name in common and name not in excepts):
        tensors.append(_compare_tensor(name, target[name], reference[name], tolerances[name], rules))
        if on_tensor is not None:
            on_tensor(tensors[-1])
    return ComparisonResult(
        tensors=tuple(tensors),
        only_in_target=tuple(name for name in target if name not in common),
        only_in_reference=tuple(name for name in reference if name not in common),
        excepted=tuple(name for name in reference if name in common and name in excepts),
        unknown_names=tolerances.unknown(common) + tuple(name for name in excepts if name not in common),
    )


@dataclass(frozen=True)
class _Rules:
    integers_equal: bool
    infinities_match: bool


def _compare_tensor(name: str, target: Array, reference: Array, tolerance: Tolerance, rules: _Rules) -> TensorResult:
    try:
        target_values, reference_values = as_values(target), as_values(reference)
    except GoldenError as error:
        raise GoldenError(f"tensor {name}: {error}") from None
    sides = _summary(target, target_values), _summary(reference, reference_values)
    if not _same_shape(target.shape, reference.shape):
        note = f"target has shape {target.shape}, reference {reference.shape}"
        return TensorResult(name, Verdict.NOT_MATCH, tolerance, None, *sides, errors=None, note=note)
    pairs = _Pairs.of(target_values.ravel(), reference_values.ravel(), rules.infinities_match)
    errors = _errors(pairs, target, reference)
    must_equal = rules.integers_equal and _is_integer_comparison(target_values, reference_values)
    verdict = _verdict(pairs, errors, tolerance, must_equal)
    smallest = _smallest_tolerance(verdict, errors, tolerance, must_equal)
    return TensorResult(name, verdict, tolerance, smallest, *sides, errors=errors, note=_note(sides, verdict, errors))


@dataclass(frozen=True)
class _Pairs:
    """Both sides, flat, with masks of the elements: `finite` on both sides, `equal`, and `unmatchable` because of NaN
    or an infinity."""

    target: Array
    reference: Array
    finite: npt.NDArray[np.bool_]
    equal: npt.NDArray[np.bool_]
    unmatchable: npt.NDArray[np.bool_]

    @staticmethod
    def of(target: Array, reference: Array, infinities_match: bool) -> _Pairs:
        finite = np.isfinite(target) & np.isfinite(reference)
        with np.errstate(invalid="ignore"):
            same = target == reference
        matching = finite | same if infinities_match else finite
        return _Pairs(target, reference, finite, same & matching, ~matching)

    def finite_pair(self) -> tuple[Array, Array]:
        if self.finite.all():
            return self.target, self.reference
        return self.target[self.finite], self.reference[self.finite]


def _same_shape(target: tuple[int, ...], reference: tuple[int, ...]) -> bool:
    """Whether the shapes are equal without axes of length 1. A cvimodel pads every shape to four axes."""
    return [n for n in target if n != 1] == [n for n in reference if n != 1]


def _is_integer_comparison(target: Array, reference: Array) -> bool:
    return (is_integer(target) and is_integer(reference)) or np.int8 in (target.dtype, reference.dtype)


def _verdict(pairs: _Pairs, errors: Errors, tolerance: Tolerance, must_equal: bool) -> Verdict:
    if errors.num_mismatches == 0:
        return Verdict.EQUAL
    if not isinstance(tolerance, Similarity):
        return Verdict.CLOSE if errors.max_abs <= tolerance and not errors.num_unmatchable else Verdict.NOT_EQUAL
    if must_equal:
        return Verdict.NOT_EQUAL
    if errors.num_unmatchable:
        return Verdict.NOT_SIMILAR
    if metrics.close_order(*pairs.finite_pair()) is not None:
        return Verdict.CLOSE
    similar = errors.cosine > tolerance.cosine and errors.euclidean > tolerance.euclidean
    return Verdict.SIMILAR if similar else Verdict.NOT_SIMILAR


def _smallest_tolerance(verdict: Verdict, errors: Errors, tolerance: Tolerance, must_equal: bool) -> Tolerance | None:
    if errors.num_unmatchable:
        return None
    if not isinstance(tolerance, Similarity) or (must_equal and verdict is not Verdict.EQUAL):
        return errors.max_abs
    if verdict in (Verdict.EQUAL, Verdict.CLOSE):
        return Similarity(1.0, 1.0)
    return smallest_passing(errors.cosine, errors.euclidean)


def _errors(pairs: _Pairs, target: Array, reference: Array) -> Errors:
    t, r = pairs.finite_pair()
    error = metrics.abs_error(t, r)
    worst = _worst(pairs, error)
    return Errors(
        num_elements=pairs.target.size,
        num_mismatches=pairs.target.size - int(np.count_nonzero(pairs.equal)),
        num_unmatchable=int(np.count_nonzero(pairs.unmatchable)),
        num_bits_differ=num_bits_differ(target, reference),
        cosine=metrics.cosine_similarity(t, r),
        euclidean=metrics.euclidean_similarity(t, r),
        sqnr_db=metrics.sqnr_db(t, r),
        max_abs=float(np.max(error, initial=0)),
        max_rel=float(np.max(metrics.rel_error(t, r), initial=0)),
        max_ulp=_max_ulp(pairs, target, reference),
        worst_index=None if worst is None else tuple(int(i) for i in np.unravel_index(worst, target.shape)),
        worst_target=None if worst is None else pairs.target[worst].item(),
        worst_reference=None if worst is None else pairs.reference[worst].item(),
    )


def _worst(pairs: _Pairs, error: Array) -> int | None:
    """Flat index of the first element that cannot match, or else of the largest error; None if all are equal."""
    if pairs.unmatchable.any():
        return int(np.argmax(pairs.unmatchable))
    if pairs.equal.all():
        return None
    return int(np.flatnonzero(pairs.finite)[np.argmax(error)])


def _max_ulp(pairs: _Pairs, target: Array, reference: Array) -> int | None:
    if not metrics.has_ulps(target, reference):
        return None
    return int(np.max(metrics.ulp_distance(target, reference)[pairs.finite], initial=0))


def _summary(array: Array, values: Array) -> Summary:
    finite = as_float64(values[np.isfinite(values)])
    num_nan = int(np.count_nonzero(np.isnan(values)))
    counts = array.shape, str(array.dtype), num_nan, values.size - finite.size - num_nan
    if finite.size == 0:
        return Summary(*counts, min=None, max=None, mean=None, std=None)
    with np.errstate(over="ignore", invalid="ignore"):
        return Summary(*counts, float(finite.min()), float(finite.max()), float(finite.mean()), float(finite.std()))


def _note(sides: tuple[Summary, Summary], verdict: Verdict, errors: Errors) -> str:
    if errors.num_unmatchable:
        target, reference = (f"{side.num_nan} NaN and {side.num_inf} infinities" for side in sides)
        return f"target holds {target}, reference {reference}: NaN never matches, infinities only if asked for"
    if verdict is Verdict.EQUAL and errors.num_bits_differ:
        return f"{errors.num_bits_differ} elements are equal numbers with different bits (0.0 and -0.0)"
    return ""

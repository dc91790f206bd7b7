"""Measures of the difference between a target and a reference, as pure functions of both arrays.

uint16 means bf16 patterns, as everywhere in golden. Cosine, Euclidean similarity and SQNR are the vendor's
(sophgo/tpu-mlir, python/numpy_helper/tensor_compare.py), but summed in float64; the vendor's tool sums in float32.
Arrays must have the same number of elements; they are compared in C order."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from golden.errors import GoldenError
from golden.values import Array, as_float64, as_values, is_bf16, is_integer

Float64 = npt.NDArray[np.float64]

NAN_DISTANCE = int(np.iinfo(np.int64).max)
"""ULP distance from a NaN to anything, itself included."""


def cosine_similarity(target: Array, reference: Array) -> float:
    """Cosine of the angle between the two as vectors, -1 to 1; 0 if either is all zeros.

    NaN or infinity gives NaN."""
    t, r = (_tame(side) for side in _pair(target, reference))
    norms = _norm(t) * _norm(r)
    return float(np.clip(np.dot(t, r) / norms, -1.0, 1.0)) if norms else 0.0


def euclidean_similarity(target: Array, reference: Array) -> float:
    """1 - |t - r| / (|(t + r) / 2| + 1e-7): 1 if equal, without a lower bound.

    It is 0 if a norm is infinite, as in the vendor's tool."""
    t, r = _pair(target, reference)
    with np.errstate(over="ignore", invalid="ignore"):
        distance, size = _norm(t - r), _norm((t + r) / 2) + 1e-7
    if math.isinf(distance) or math.isinf(size):
        return 0.0
    return 1 - distance / size


def sqnr_db(target: Array, reference: Array) -> float:
    """Signal to quantisation noise in dB: 10 log10(var(target) / var(target - reference)). Not symmetric.

    As in the vendor's tool, the target is the signal, and the result is infinite if either variance is zero. So a
    constant error counts as no noise."""
    t, r = _pair(target, reference)
    if t.size == 0:
        return math.inf
    with np.errstate(over="ignore", invalid="ignore"):
        signal, noise = np.var(t), np.var(t - r)
    if signal == 0 or noise == 0:
        return math.inf
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return float(10 * np.log10(signal / noise))


def abs_error(target: Array, reference: Array) -> npt.NDArray[np.uint64] | Float64:
    """target - reference| of each element, flat.

    It is uint64 and exact for integers, else float64; inf - inf is NaN."""
    t, r = _same_size(target, reference)
    # int64 and uint64 have no common integer type
    if is_integer(t) and is_integer(r) and is_integer(np.empty(0, np.result_type(t, r))):
        wide_t, wide_r = t.astype(np.uint64), r.astype(np.uint64)
        # differences modulo 2^64, so they are exact for negative numbers too
        return np.where(np.greater_equal(t, r), wide_t - wide_r, wide_r - wide_t)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.abs(as_float64(t) - as_float64(r))


def rel_error(target: Array, reference: Array) -> Float64:
    """target - reference| / |reference| of each element, flat.

    It is 0 if both are equal, and infinity if only the reference is 0."""
    error = abs_error(target, reference).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        relative = error / np.abs(as_float64(reference).ravel())
    relative[error == 0] = 0
    return relative


def ulp_distance(target: Array, reference: Array) -> npt.NDArray[np.int64]:
    """How many steps of representable numbers it is from one to the other, for each element, flat.

    It is 0 from -0.0 to 0.0, and 1 from the largest number to infinity. It is NAN_DISTANCE if either is NaN. Raises
    GoldenError unless both are bf16 (in either storage), float16 or float32."""
    if not has_ulps(target, reference):
        raise GoldenError(
            f"ULP distance of {target.dtype} to {reference.dtype} is not defined: both must be bf16, float16 or float32"
        )
    t, r = _same_size(target, reference)
    distance = np.abs(_ordinal(target) - _ordinal(reference))
    distance[np.isnan(t) | np.isnan(r)] = NAN_DISTANCE
    return distance


def has_ulps(target: Array, reference: Array) -> bool:
    """Whether ulp_distance is defined for the two: both have one format, and it is bf16, float16 or float32."""
    return (is_bf16(target) and is_bf16(reference)) or (
        target.dtype == reference.dtype and target.dtype in (np.float16, np.float32)
    )


def close_order(target: Array, reference: Array) -> int | None:
    """The largest of 5, 4, 3 for which |target - reference| <= 1e-8 + 10^-order |reference| everywhere, else None.

    The vendor's tool calls a tensor CLOSE from order 3 on."""
    error = abs_error(target, reference).astype(np.float64) - 1e-8
    size = np.abs(as_float64(reference).ravel())
    with np.errstate(invalid="ignore"):
        return next((order for order in (5, 4, 3) if bool(np.all(error <= 10.0**-order * size))), None)


def _same_size(target: Array, reference: Array) -> tuple[Array, Array]:
    if target.size != reference.size:
        raise GoldenError(
            f"{target.size} elements cannot be compared with {reference.size}: the sizes must be the same"
        )
    return as_values(target).ravel(), as_values(reference).ravel()


def _pair(target: Array, reference: Array) -> tuple[Float64, Float64]:
    t, r = _same_size(target, reference)
    return as_float64(t), as_float64(r)


def _tame(values: Float64) -> Float64:
    """The values, divided by the largest magnitude if their squares could overflow or underflow."""
    peak = np.max(np.abs(values), initial=0.0)
    if peak == 0 or 1e-100 < peak < 1e100:
        return values
    with np.errstate(invalid="ignore"):
        return values / peak


def _norm(values: Float64) -> float:
    return math.sqrt(np.dot(values, values))


def _ordinal(array: Array) -> npt.NDArray[np.int64]:
    """The place of each float among the floats of its format, counted from zero. Neighbours differ by one."""
    lowest = np.iinfo(f"i{array.dtype.itemsize}").min
    bits = np.ascontiguousarray(array).ravel().view(f"i{array.dtype.itemsize}").astype(np.int64)
    return np.where(bits < 0, lowest - bits, bits)  # bits of negative numbers grow with the magnitude

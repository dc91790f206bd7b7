"""Where a tensor differs from its reference: the errors by themselves, and the largest of each channel and pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.errors import GoldenError
from golden.values import Array, as_float64

Float64 = npt.NDArray[np.float64]

MAX_ROWS, MAX_COLUMNS = 512, 1024
"""Cells of a map; more than a picture shows."""


@dataclass(frozen=True)
class ErrorMap:
    """The errors target - reference of one tensor.

    errors          of the elements that can be subtracted, flat; NaN and infinities are left out
    largest         the largest |error| in each cell, (rows, columns); infinity where an element could not be subtracted
    num_channels    n * c, which the rows share evenly, the last one aside
    num_pixels      h * w, which the columns share in the same way
    """

    errors: Float64
    largest: Float64
    num_channels: int
    num_pixels: int


def error_map(target: Array, reference: Array) -> ErrorMap:
    """Of two arrays of one shape but for axes of length 1; the last two axes of four are pixels, of fewer all but the
    first. Raises GoldenError for arrays of other sizes or without elements."""
    shape = reference.shape
    if target.size != reference.size or not target.size:
        raise GoldenError(
            f"arrays of shape {target.shape} and {shape} have no map of errors: they must have as many elements, and "
            "at least one"
        )
    num_channels = int(np.prod(shape[:-2] if len(shape) >= 4 else shape[:1]))
    with np.errstate(over="ignore", invalid="ignore"):
        errors = (as_float64(target).ravel() - as_float64(reference).ravel()).reshape(num_channels, -1)
    known = np.isfinite(errors)
    sizes = np.where(known, np.abs(errors), np.inf)
    largest = np.maximum.reduceat(sizes, _steps(sizes.shape[0], MAX_ROWS), axis=0)
    largest = np.maximum.reduceat(largest, _steps(sizes.shape[1], MAX_COLUMNS), axis=1)
    return ErrorMap(errors[known], largest, *sizes.shape)


def _steps(count: int, most: int) -> npt.NDArray[np.intp]:
    """Where at most `most` even stretches of `count` begin."""
    return np.arange(0, count, -(-count // most))

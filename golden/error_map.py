"""Where a tensor differs from its reference: all errors, and the largest error of each channel and pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.errors import GoldenError
from golden.values import Array, as_float64

Float64 = npt.NDArray[np.float64]

MAX_ROWS, MAX_COLUMNS = 512, 1024
"""At most this many cells of a map, more than a picture shows."""


@dataclass(frozen=True)
class ErrorMap:
    """The errors target - reference of one tensor.

    errors          errors of the elements that can be subtracted, float64, flat; NaN and infinities are left out
    largest         float64 (rows, columns): the largest |error| in each cell; infinity if an element could not be
                    subtracted
    num_channels    n * c; each row has equally many of them, except the last
    num_pixels      h * w; each column has equally many of them, except the last
    """

    errors: Float64
    largest: Float64
    num_channels: int
    num_pixels: int


def error_map(target: Array, reference: Array) -> ErrorMap:
    """The map of two arrays, whose shapes differ at most in axes of length 1. With four axes or more, the last two are
    pixels; with fewer, all but the first. Raises GoldenError for different sizes or arrays without elements."""
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
    """The starts of at most `most` equal parts of `count` elements."""
    return np.arange(0, count, -(-count // most))

"""Matrices that multiply bf16 activations, in each precision.

The arithmetic is that of the instructions that a kernel issues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npusim.numerics.accumulate import Span, dot_exact
from npusim.numerics.convert import bf16_from_int8, int8_from_bf16
from npusim.numerics.requant import multiply_by_quantized, saturate
from reference_model.quant.arith import F32, Matrix, Patterns, add, floats, mac, matmul, mul, pattern, patterns
from reference_model.quant.panels import Panels

INT8_LARGEST = 127
SMOOTHING = 0.7


class Linear(Protocol):
    """A matrix [out, in] as the chip multiplies by it."""

    def product(self, x: Patterns) -> Patterns:
        """x [T, in] -> [T, out], bf16 patterns."""

    def add_to(self, residual: Patterns, x: Patterns) -> Patterns:
        """residual [T, out] + product(x), in as few roundings as the instructions allow."""


@dataclass(frozen=True, eq=False)
class Bf16Linear:
    """bf16 weights: one matrix product."""

    matrix: Matrix

    @classmethod
    def of(cls, weight: F32) -> Bf16Linear:
        """float32 `weight` [out, in], rounded to bf16."""
        return cls(Matrix.of(patterns(weight.T)))

    def product(self, x: Patterns) -> Patterns:
        return matmul(x, self.matrix)

    def add_to(self, residual: Patterns, x: Patterns) -> Patterns:
        return add(residual, self.product(x))

    def rows(self, ids: NDArray[np.int64]) -> F32:
        """The values of some rows of the [out, in] matrix."""
        return self.matrix.values.columns(ids)


@dataclass(frozen=True, eq=False)
class Int8Linear:
    """W8A16: int8 weights with one bf16 scale for each output channel.

    int8 becomes bf16 on the way into LMEM, the product is bf16, and then it is multiplied by the scale."""

    matrix: Matrix
    scale: Patterns

    @classmethod
    def of(cls, weight: F32) -> Int8Linear:
        quantised, scale = quantise_rows(weight)
        present = np.unique(quantised).view(np.uint8)
        return cls(Matrix(Panels.of(quantised), Span.of_bf16(bf16_from_int8(signed=True)[present])), scale)

    @property
    def quantised(self) -> NDArray[np.int8]:
        """The int8 weights [out, in]."""
        return self.matrix.values.weight().astype(np.int8)

    def product(self, x: Patterns) -> Patterns:
        return mul(matmul(x, self.matrix), self.scale)

    def add_to(self, residual: Patterns, x: Patterns) -> Patterns:
        return mac(residual, matmul(x, self.matrix), self.scale)

    def rows(self, ids: NDArray[np.int64]) -> F32:
        return self.matrix.values.columns(ids) * floats(self.scale[ids])[:, None]


def quantise_rows(weight: F32) -> tuple[NDArray[np.int8], Patterns]:
    """float32 `weight` [out, in] -> int8 [out, in] and a bf16 scale [out].

    The scale is rounded first and the weights are divided by the rounded scale, so that rounding it costs nothing."""
    scale = scale_for(np.abs(weight).max(1))
    return np.clip(np.rint(weight / floats(scale)[:, None]), -INT8_LARGEST, INT8_LARGEST).astype(np.int8), scale


def scale_for(largest: NDArray) -> Patterns:
    """bf16 steps that divide `largest` into 127 parts; 1 where there is nothing to divide."""
    scale = patterns(largest / INT8_LARGEST)
    return np.where(scale == 0, pattern(1.0), scale).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class Int8ActivationLinear:
    """W8A8: int8 activations with calibrated steps, int32 sums, and int8 results.

    to_int8             bf16 [in]: activations are multiplied by it before the TDMA rounds them to int8
    weight              int8 values [in, out] in float32
    multiplier, shift   int64 [out]: the 32-bit multiplier that takes int32 sums to the int8 step of the result
    scale               bf16 [out]: the step of each output channel, which takes int8 results back to bf16"""

    to_int8: Patterns
    weight: F32
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    scale: Patterns

    @classmethod
    def of(
        cls, weight: F32, largest_in: NDArray, largest_out: NDArray, smoothing: float = SMOOTHING
    ) -> Int8ActivationLinear:
        """From calibrated ranges: int8 can just hold `largest_in` [in] and `largest_out` [out].

        Where an input exceeds the others, its column of weights takes over the share `smoothing` of the excess
        (SmoothQuant, arXiv:2211.10438, section 4). Without that, the few channels with huge activations leave no
        bits to the rest."""
        largest_in = np.maximum(largest_in, max(float(largest_in.max()), 1e-30) * 1e-6)
        columns = np.maximum(np.abs(weight).max(0), 1e-6)
        smooth = largest_in**smoothing / columns ** (1 - smoothing)
        to_int8 = patterns(INT8_LARGEST / (largest_in / smooth).max() / smooth)
        quantised, step = quantise_rows(weight / floats(to_int8))
        scale = scale_for(largest_out)
        real = floats(step).astype(np.float64) / floats(scale)
        return cls(to_int8, np.ascontiguousarray(quantised.T.astype(np.float32)), *quantised_multiplier(real), scale)

    def product(self, x: Patterns) -> Patterns:
        return mul(self._int8_product(x), self.scale)

    def add_to(self, residual: Patterns, x: Patterns) -> Patterns:
        return mac(residual, self._int8_product(x), self.scale)

    def _int8_product(self, x: Patterns) -> Patterns:
        to_int8 = int8_from_bf16(signed=True, toward_zero=False, vanish_exponent=None)
        left = to_int8[mul(x, self.to_int8)].view(np.int8).astype(np.float32)
        sums = dot_exact(left, self.weight, 128 * 128)
        result = saturate(multiply_by_quantized(sums.astype(np.int64), self.multiplier, self.shift), 8, signed=True)
        return bf16_from_int8(signed=True)[result.astype(np.int8).view(np.uint8)]


def quantised_multiplier(real: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """gemmlowp's (multiplier, right shift): real ~ multiplier * 2 ** -(31 + shift), multiplier in [2^30, 2^31).

    Raises no error: a factor of 1 and more, which no calibrated layer has, saturates to the largest multiplier."""
    fraction, exponent = np.frexp(real)
    multiplier = np.rint(fraction * (1 << 31)).astype(np.int64)
    carried = multiplier == 1 << 31
    multiplier = np.where(carried, 1 << 30, multiplier)
    shift = -(exponent.astype(np.int64) + carried)
    return np.where(shift < 0, (1 << 31) - 1, multiplier), np.clip(shift, 0, 31)

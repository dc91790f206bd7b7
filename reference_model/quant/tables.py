"""Functions by table, as sequences of what the chip has: lookups in 256 entries (TIU), conversions and index moves
(TDMA).

An interpolating table holds a line for each of 256 equal steps, as in the bf16 lookup of wwwuxy/cvikernel
(src/cv181x/cvkcv181x.c, tiu_bf16_lookup_interp_table), but rounds the index to nearest (int8_rnd_mode 0): toward
zero, step 0 would be two steps wide. A scientific table multiplies what it finds for the exponent by what it finds
for the low byte, which is the fraction and the exponent's last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from npusim.numerics.convert import bf16_from_int8, int8_from_bf16, lut_index_from_bf16
from reference_model.quant.arith import Patterns, mac, maximum, minimum, mul, pattern, patterns, sub

F64 = NDArray[np.float64]


def lookup(table: Patterns, index: NDArray) -> Patterns:
    """tiu_lookup_table: entries of `table` (256,) at the low byte of each element."""
    return table[np.bitwise_and(index, 0xFF, dtype=np.intp)]


@dataclass(frozen=True, eq=False)
class Interpolated:
    """f(x) ~ base[i] + slope[i] * (scale * x - i), where i is scale * x rounded to nearest, as int8.

    x is clamped to -128 / scale .. 127 / scale.

    base, slope   bf16 patterns (256,), at the index's byte
    scale         a power of two, so that scale * x is exact"""

    base: Patterns
    slope: Patterns
    scale: float

    @property
    def low(self) -> np.uint16:
        """The smallest argument, bf16; tiu_max clamps to it."""
        return pattern(-128 / self.scale)

    @property
    def high(self) -> np.uint16:
        """The largest argument, bf16; tiu_min clamps to it."""
        return pattern(127 / self.scale)


def interpolate(table: Interpolated, x: Patterns) -> Patterns:
    """tiu_max, tiu_min, tiu_mul; TDMA to int8 and back; tiu_sub; two lookups; tiu_mac."""
    scaled = mul(minimum(maximum(x, table.low), table.high), pattern(table.scale))
    index = int8_from_bf16(signed=True, toward_zero=False, vanish_exponent=None)[scaled]
    offset = sub(scaled, bf16_from_int8(signed=True)[index])
    return mac(lookup(table.base, index), lookup(table.slope, index), offset)


def tabulate(function: Callable[[F64], F64], scale: float, below: float) -> Interpolated:
    """Lines that halve the error of chords.

    The lowest step is constantly `below`, which also stands for everything smaller."""
    index = np.concatenate([np.arange(128), np.arange(-128, 0)])
    left, middle, right = (function((index + shift) / scale) for shift in (-0.5, 0.0, 0.5))
    base, slope = ((left + right) / 2 + middle) / 2, right - left
    base[128], slope[128] = below, 0
    return Interpolated(_constant(patterns(base)), _constant(patterns(slope)), scale)


@dataclass(frozen=True, eq=False)
class Scientific:
    """f(x) ~ by_exponent[floor(log2 x) + 63] * by_fraction[low byte of x], for 2^-63 <= x < 2^65.

    Both are bf16 patterns (256,)."""

    by_exponent: Patterns
    by_fraction: Patterns


def scientific(table: Scientific, x: Patterns) -> Patterns:
    """TDMA move with mv_lut_idx, two lookups, tiu_mul.

    Exact up to the rounding of by_fraction, as by_exponent holds powers of two."""
    return mul(lookup(table.by_exponent, lut_index_from_bf16()[x]), lookup(table.by_fraction, x))


def tabulate_power(power: float) -> Scientific:
    """x ** power, for -1 and -1/2, correctly rounded.

    The last bit of the biased exponent is 1 where the exponent is even. It says whether the fraction's entry has to
    stand for m or 2 m."""
    exponent = np.arange(128) - 63
    odd = exponent % 2
    by_exponent = np.zeros(256)
    by_exponent[:128] = np.exp2((exponent - odd) * power)
    fraction = 1 + np.arange(128) / 128
    by_fraction = np.concatenate([2 * fraction, fraction]) ** power
    return Scientific(_constant(patterns(by_exponent)), _constant(patterns(by_fraction)))


@cache
def exp_table() -> Interpolated:
    """exp for x <= 0 in steps of 1/8; exactly 1 at 0, and 0 from -15.94 down, so that a masked score weighs nothing."""
    return tabulate(lambda x: np.exp(np.minimum(x, 1)), 8, 0)


@cache
def sigmoid_table() -> Interpolated:
    """1 / (1 + exp(-x)) in steps of 1/8; 0 from -15.94 down."""
    return tabulate(lambda x: 1 / (1 + np.exp(-x)), 8, 0)


@cache
def gelu_gate_table() -> Interpolated:
    """gelu_tanh(x) / x in steps of 1/16; 0 from -7.97 down."""
    return tabulate(lambda x: 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), 16, 0)


@cache
def reciprocal_table() -> Scientific:
    """1 / x."""
    return tabulate_power(-1)


@cache
def rsqrt_table() -> Scientific:
    """1 / sqrt(x)."""
    return tabulate_power(-0.5)


def _constant(values: Patterns) -> Patterns:
    values.flags.writeable = False
    return values

"""Conversions between int8, uint8 and bf16 patterns, which the TDMA makes between LMEM and GMEM.

Both directions are table lookups: a bf16 pattern has 16 bits and an integer 8."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray


@cache
def int8_from_bf16(signed: bool, toward_zero: bool, vanish_exponent: int | None) -> NDArray[np.uint8]:
    """The integer that each of the 65,536 bf16 patterns becomes, as its byte; shape (65536,), read-only.

    It rounds to nearest even, or toward zero (`int8_rnd_mode` 1), then saturates to int8 (`signed`, `int8_sign` 1) or
    uint8. NaN saturates by its sign. If `vanish_exponent` is given (`Chip.dma_vanish_exponent`), magnitudes of
    2**vanish_exponent and above, including infinity, become 0."""
    patterns = np.arange(1 << 16, dtype=np.uint32)
    low, high = (-128, 127) if signed else (0, 255)
    negative = patterns >= 0x8000
    with np.errstate(invalid="ignore"):  # signalling NaN
        values = (patterns << 16).view(np.float32).astype(np.float64)
        rounded = np.trunc(values) if toward_zero else np.rint(values)
    limits = np.where(negative, low, high)
    table = np.clip(np.where(np.isnan(values), limits, rounded), low, high)
    if vanish_exponent is not None:
        table[np.abs(values) >= 2.0**vanish_exponent] = 0
    result = table.astype(np.int16).astype(np.uint8)
    result.flags.writeable = False
    return result


@cache
def bf16_from_int8(signed: bool) -> NDArray[np.uint16]:
    """The bf16 pattern of each byte's value, exact; shape (256,), read-only."""
    octets = np.arange(256, dtype=np.uint8)
    values = (octets.view(np.int8) if signed else octets).astype(np.float32)
    result = (values.view(np.uint32) >> 16).astype(np.uint16)
    result.flags.writeable = False
    return result


def looked_up(table: NDArray, values: NDArray) -> NDArray:
    """table[values] for a table of this module and values of any shape. From integers to bf16 it is computed by
    arithmetic if that is faster."""
    if table.size == 1 << 16 or values.size < _FEW:
        return table.take(values)
    octets = values.view(np.int8) if table is bf16_from_int8(True) else values
    bits = octets.astype(np.float32, order="C").view(np.uint32)
    bits >>= 16
    return bits


_FEW = 1 << 10
"""For fewer elements a table is faster than arithmetic."""


@cache
def lut_index_from_bf16() -> NDArray[np.uint16]:
    """The place of each bf16 pattern in a table of 256 exponents (`mv_lut_idx`), in both bytes; (65536,), read-only.

    It is floor(log2 |x|) + 63 in 8 bits, plus 128 for negative x, and 0 for both zeros. Infinity counts as 1, as in the
    vendor's model; that stops at NaN, which counts as 1 too here."""
    magnitudes = np.arange(1 << 15, dtype=np.int64)
    exponents = np.where(magnitudes >> 7, (magnitudes >> 7) - 127, np.frexp(magnitudes)[1] - 134)
    exponents[0x7F80:] = 0
    positive = np.where(magnitudes == 0, 0, exponents + 63)
    negative = np.where(magnitudes == 0, 0, exponents + 63 + 128)
    index = np.concatenate([positive, negative]).astype(np.uint8).astype(np.uint16)
    result = (index << 8 | index).astype(np.uint16)
    result.flags.writeable = False
    return result


@cache
def lut_base_from_bf16() -> NDArray[np.uint16]:
    """The power of two at or below each bf16 number (`mv_lut_base`): its pattern with a fraction of 0.

    Shape (65536,), read-only."""
    result = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16) & np.uint16(0xFF80)
    result.flags.writeable = False
    return result

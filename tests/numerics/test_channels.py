"""Requantisation by channel against the scalar twin."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npusim.numerics.channels import quantize_channels, record_bytes
from npusim.numerics.requant import limits
from tests.spec import requant as spec

BIAS = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-5000, 5000)
MULTIPLIER = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(1 << 30, (1 << 31) - 1)
SHIFT = st.integers(0, 255) | st.integers(0, 20)
RECORDS = st.lists(st.tuples(BIAS, MULTIPLIER, SHIFT), min_size=1, max_size=4)


def finished(value: int, record: tuple[int, int, int], shift_bits: int, low: int, high: int) -> int:
    """What the chip makes of one sum."""
    bias, multiplier, field = record
    shift = spec.wrap(field, shift_bits)
    value = spec.wrap(spec.wrap(value + bias, 32) << (-shift & 31 if shift < 0 else 0), 32)
    return min(max(spec.multiply_by_quantized(value, multiplier, max(shift, 0)), low), high)


@given(st.integers(-(1 << 24), 1 << 24) | st.integers(-3000, 3000), RECORDS, st.booleans(), st.booleans())
def test_sums_of_either_type_are_finished_as_one_number_is(
    value: int, records: list[tuple[int, int, int]], signed: bool, relu: bool
) -> None:
    low, high = limits(8, signed)
    low = max(low, 0) if relu else low
    packed = np.frombuffer(b"".join(struct.pack("<iiB", *record) for record in records), np.uint8)
    want = [finished(value, record, 6, low, high) & 255 for record in records]
    for dtype in (np.float32, np.int32):
        sums = np.full((1, len(records), 1, 1), value, dtype)
        assert quantize_channels(sums, packed, 6, low, high).reshape(-1).tolist() == want


@pytest.mark.parametrize("multiplier", [1 << 30, (1 << 31) - 1, 1518500250, -(1 << 30)])
@pytest.mark.parametrize("shift", [0, 1, 2, 7, 12, 13, 20])
def test_every_tie_goes_where_the_chip_sends_it(multiplier: int, shift: int) -> None:
    """Sums about those whose result ends in a half, in front of the right shift and behind it."""
    ties = [round((result + 0.5) * 2.0 ** (shift + 31) / multiplier) for result in range(-130, 130)]
    values = [value + step for value in ties for step in (-2, -1, 0, 1, 2) if abs(value) < 1 << 24]
    record = (77, multiplier, shift)
    packed = np.frombuffer(struct.pack("<iiB", *record), np.uint8)
    sums = np.array([value - 77 for value in values], np.float32).reshape(1, 1, 1, -1)
    want = [finished(value - 77, record, 6, -128, 127) & 255 for value in values]
    assert quantize_channels(sums, packed, 6, -128, 127).reshape(-1).tolist() == want


@given(st.integers(-(1 << 31), (1 << 31) - 1), RECORDS)
@example((1 << 31) - 1, [(1, 1 << 30, 4)])
def test_the_bias_is_added_within_32_bits(value: int, records: list[tuple[int, int, int]]) -> None:
    packed = np.frombuffer(b"".join(struct.pack("<iiB", *record) for record in records), np.uint8)
    sums = np.full((1, len(records), 1, 1), value, np.int32)
    want = [finished(value, record, 6, -128, 127) & 255 for record in records]
    assert quantize_channels(sums, packed, 6, -128, 127).reshape(-1).tolist() == want


def test_images_and_blocks_of_channels_are_finished_alike() -> None:
    rng = np.random.default_rng(0)
    sums = rng.integers(-(1 << 20), 1 << 20, (2, 40, 30, 50)).astype(np.float32)
    records = rng.integers(0, 256, (40, record_bytes(True)), np.uint8)
    records[:, -1] %= 13
    records[:, 2:4] = 0
    whole = quantize_channels(sums, records, 6, -128, 127)
    for image, channel in ((0, 0), (1, 39), (1, 20)):
        alone = quantize_channels(sums[image, channel][None, None], records[channel], 6, -128, 127)
        assert np.array_equal(whole[image, channel], alone[0, 0])

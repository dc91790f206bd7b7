"""Conversions of the DMA: every bf16 pattern and every byte, against scalar twins."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from npusim import Machine
from npusim.numerics.convert import bf16_from_int8, int8_from_bf16, lut_base_from_bf16, lut_index_from_bf16
from npusim.program.cmdbuf import build_cmdbuf
from tests.spec import tdma_convert as spec
from tests.support.case import tdma


@pytest.mark.parametrize("vanish_exponent", [None, 64])
@pytest.mark.parametrize("toward_zero", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_bf16_to_int8_equals_its_scalar_twin_on_every_pattern(
    signed: bool, toward_zero: bool, vanish_exponent: int | None
) -> None:
    table = int8_from_bf16(signed, toward_zero, vanish_exponent)
    assert table.tolist() == [
        spec.int8_from_bf16(pattern, signed, toward_zero, vanish_exponent) for pattern in range(1 << 16)
    ]


@pytest.mark.parametrize("signed", [False, True])
def test_int8_to_bf16_equals_its_scalar_twin_and_ml_dtypes_on_every_byte(signed: bool) -> None:
    table = bf16_from_int8(signed)
    assert table.tolist() == [spec.bf16_from_int8(byte, signed) for byte in range(256)]
    values = np.arange(256).astype(np.uint8).view(np.int8 if signed else np.uint8)
    assert np.array_equal(table, values.astype(ml_dtypes.bfloat16).view(np.uint16))


@pytest.mark.parametrize("signed", [False, True])
def test_int8_survives_the_way_to_bf16_and_back(signed: bool) -> None:
    assert np.array_equal(int8_from_bf16(signed, False, None)[bf16_from_int8(signed)], np.arange(256))


def test_table_index_equals_its_scalar_twin_on_every_pattern() -> None:
    assert lut_index_from_bf16().tolist() == [spec.lut_index_from_bf16(pattern) for pattern in range(1 << 16)]


def test_table_base_is_the_power_of_two_below() -> None:
    assert lut_base_from_bf16().tolist() == [pattern >> 7 << 7 for pattern in range(1 << 16)]


def test_many_elements_that_overlap_their_bf16_selves_are_converted_one_after_another() -> None:
    """More than a thousand, from where they are converted by arithmetic."""
    machine = Machine("cv181x", 1 << 12)
    machine.lmem[0] = np.random.default_rng(1).integers(0, 256, machine.chip.lmem_bytes, np.uint8)
    expected = bytearray(machine.lmem[0].tobytes())
    for i in range(2000):
        expected[1000 + 2 * i : 1002 + 2 * i] = spec.bf16_from_int8(expected[i], False).to_bytes(2, "little")
    shape = {f"{side}_{dim}": extent for side in ("src", "dst") for dim, extent in (("c", 1), ("h", 1), ("w", 2000))}
    command = tdma(machine.chip, src_n=1, trans_dir=3, src_fmt=1, dst_fmt=2, dst_base_addr_low=1000, **shape)
    machine.run_cmdbuf(build_cmdbuf(machine.chip, [command]))
    assert machine.lmem[0].tobytes() == bytes(expected)

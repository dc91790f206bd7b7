"""Compression of the DMA: lossless, equal to its scalar twin bit for bit, and safe against damaged streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim import Machine
from npusim.chip import chip_named
from npusim.execute import BoundProgram
from npusim.numerics.vlc import HEADER_BYTES, VlcParams, compress, stream_limit
from npusim.numerics.vlc_decode import decompress
from npusim.program.cmdbuf import build_cmdbuf, parse_cmdbuf
from npusim.program.decode import decode_cmdbuf
from tests.spec import tdma_vlc as spec
from tests.support.case import tdma

INT8_PARAMS = st.builds(VlcParams, st.just(False), st.booleans(), st.integers(0, 127), st.integers(0, 127))
BF16_PARAMS = st.builds(VlcParams, st.just(True), st.just(False), st.integers(0, 255), st.just(0), st.booleans())
NARROW = st.integers(0, 255).flatmap(
    lambda base: st.lists(st.integers(0, 9).map(lambda step: (base + step) % 256), min_size=1, max_size=70)
)
"""Bytes, or exponents, that lie close together, as compression needs them to gain anything."""
WIDE = st.lists(st.integers(0, 255), min_size=1, max_size=70)


@st.composite
def bf16_elements(draw: st.DrawFn, params: VlcParams) -> list[int]:
    exponents = draw(NARROW | WIDE)
    rests = draw(st.lists(st.integers(0, 255), min_size=len(exponents), max_size=len(exponents)))
    elements = [rest >> 7 << 15 | exponent << 7 | rest & 0x7F for exponent, rest in zip(exponents, rests, strict=True)]
    return [element if element & 0x7F80 or not params.zero_guard else 0 for element in elements]


@given(st.data(), INT8_PARAMS)
def test_int8_streams_equal_the_scalar_twins_and_decode_to_what_was_coded(
    data: st.DataObject, params: VlcParams
) -> None:
    elements = data.draw(NARROW | WIDE)
    stream = compress(np.array(elements, np.uint8), params)
    assert stream.tobytes() == spec.compress(elements, params)
    assert decompress(stream, len(elements), 1).tolist() == elements


@given(st.data(), BF16_PARAMS)
def test_bf16_streams_equal_the_scalar_twins_and_decode_to_what_was_coded(
    data: st.DataObject, params: VlcParams
) -> None:
    elements = data.draw(bf16_elements(params))
    stream = compress(np.array(elements, np.uint16), params)
    assert stream.tobytes() == spec.compress(elements, params)
    assert decompress(stream, len(elements), 2).tolist() == elements


@pytest.mark.parametrize("params", [VlcParams(signed=True, bias0=b, bias1=127 - b) for b in (0, 1, 64, 127)], ids=str)
def test_remapping_is_undone_for_every_signed_byte(params: VlcParams) -> None:
    assert np.array_equal(params.unmap()[params.remap()], np.arange(256))
    assert params.remap().tolist() == [spec.remap(symbol, params) for symbol in range(256)]


@pytest.mark.parametrize("zero_guard", [False, True])
def test_remapping_is_undone_for_every_exponent_under_every_bias(zero_guard: bool) -> None:
    for bias in range(256):
        params = VlcParams(bf16=True, bias0=bias, zero_guard=zero_guard)
        assert params.remap().tolist() == [spec.remap(symbol, params) for symbol in range(256)]
        undone = params.unmap()[params.remap()] == np.arange(256)
        assert undone.all(), f"bias {bias}: exponents {np.flatnonzero(~undone)}"


def test_zero_guard_drops_sign_and_fraction_of_denormals() -> None:
    elements = np.array([0x8001, 0x0040, 0x3F80, 0xBFC0], np.uint16)
    stream = compress(elements, VlcParams(bf16=True, bias0=127, zero_guard=True))
    assert decompress(stream, 4, 2).tolist() == [0, 0, 0x3F80, 0xBFC0]


def test_no_stream_is_longer_than_its_limit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 999, np.uint8)
    assert compress(noise, VlcParams(signed=True)).size == stream_limit(999, 1)


def test_bytes_behind_a_stream_are_not_looked_at() -> None:
    elements = np.arange(40, dtype=np.uint8)
    stream = compress(elements, VlcParams())
    assert np.array_equal(decompress(np.append(stream, np.full(50, 0xFF, np.uint8)), 40, 1), elements)


def test_a_stream_of_the_other_element_type_is_refused() -> None:
    stream = compress(np.arange(40, dtype=np.uint8), VlcParams())
    with pytest.raises(ValueError, match="elements of 1 bytes, not 2"):
        decompress(stream, 20, 2)


def test_a_stream_that_claims_too_many_bytes_is_refused() -> None:
    stream = compress(np.arange(40, dtype=np.uint8), VlcParams())
    stream[2] = 0xFF
    with pytest.raises(ValueError, match="more than 40 elements can have"):
        decompress(stream, 40, 1)


@given(
    st.data(),
    st.sampled_from(
        [VlcParams(signed=True), VlcParams(bf16=True, bias0=127), VlcParams(bf16=True, bias0=127, zero_guard=True)]
    ),
)
def test_a_damaged_stream_gives_elements_or_a_value_error(data: st.DataObject, params: VlcParams) -> None:
    count = data.draw(st.integers(1, 80))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    elements = (rng.normal(0, 9, count).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    stream = compress(elements if params.bf16 else elements.astype(np.uint8), params)
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(HEADER_BYTES, stream.size - 1))] = data.draw(st.integers(0, 255))
    stream = stream[: data.draw(st.integers(0, stream.size))]
    try:
        assert decompress(stream, count, params.itemsize).shape == (count,)
    except ValueError as error:
        assert str(error)


def test_a_stream_that_changes_is_decoded_again() -> None:
    machine, chip = Machine("cv181x"), chip_named("cv181x")
    fields = dict(trans_dir=0, compress_en=1, src_fmt=1, dst_fmt=1, cmd_id=1, src_base_addr_low=0x1000000)
    load = tdma(
        chip, **fields, src_n=1, dst_c=1, dst_h=1, dst_w=64, dst_n_stride=64, dst_c_stride_low=64, dst_h_stride=64
    )
    program = BoundProgram(machine.state, decode_cmdbuf(parse_cmdbuf(chip, build_cmdbuf(chip, [load]))))
    for value in (3, 3, 5, 3):
        machine.gmem.write(0x1000000, compress(np.full(64, value, np.uint8), VlcParams()))
        machine.lmem[...] = 0
        program.run()
        assert np.all(machine.lmem[0, :64] == value)

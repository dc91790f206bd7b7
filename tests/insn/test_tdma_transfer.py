"""DMA instructions: which bytes they move to which place, in which order, and what they refuse."""

from __future__ import annotations

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim import Machine
from npusim.errors import AddressError, IllegalInstruction, NpusimError
from npusim.insn.tdma import TDMA_INSTRUCTIONS
from npusim.isa.regs import tdma_rows
from npusim.program.cmdbuf import build_cmdbuf, parse_cmdbuf
from tests.differential.tdma_cases import draw
from tests.spec.tdma_convert import lut_index_from_bf16
from tests.spec.tdma_order import Shape, copy_in_order, lmem_addrs
from tests.support.case import tdma

GMEM = 0x1000
G2L, L2G, G2G, L2L = range(4)


def run(machine: Machine, *parts: dict[str, int], **fields: int) -> None:
    """One DMA command of `parts` and `fields`, int8 to int8 where they do not say otherwise."""
    merged = {"cmd_id": 1, "src_fmt": 1, "dst_fmt": 1}
    for part in (*parts, fields):
        merged.update(part)
    machine.run_cmdbuf(build_cmdbuf(machine.chip, [tdma(machine.chip, **merged)]))


def side(name: str, shape: Shape, strides: Shape, addr: int) -> dict[str, int]:
    n, c, h, w = shape
    fields = {"src_n": n, f"{name}_c": c, f"{name}_h": h, f"{name}_w": w, f"{name}_base_addr_low": addr}
    return fields | {f"{name}_n_stride": strides[0], f"{name}_c_stride_low": strides[1], f"{name}_h_stride": strides[2]}


def dense(shape: Shape, size: int = 1) -> Shape:
    _, c, h, w = shape
    return (c * h * w * size, h * w * size, w * size, size)


def lmem_strides(shape: Shape, num_lanes: int, size: int = 1) -> Shape:
    _, c, h, w = shape
    c_str = -(-h * w * size // 16) * 16
    return (c_str * (-(-c // num_lanes) + 1), c_str, w * size, size)


def machine_with(data: np.ndarray, chip: str = "cv181x") -> Machine:
    machine = Machine(chip, 1 << 16)
    machine.gmem.write(GMEM, data)
    return machine


def read(machine: Machine, addr: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(machine.gmem.read(addr, int(np.prod(shape))), np.uint8).reshape(shape)


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), st.integers(1, 9))


@given(SHAPES, st.integers(0, 7), st.integers(0, 40), st.sampled_from(["cv180x", "cv181x"]))
def test_a_tensor_comes_back_from_any_lane_as_it_went(shape: Shape, lane: int, offset: int, chip: str) -> None:
    data = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    machine = machine_with(data, chip)
    lanes = machine.chip.num_lanes
    local = side("dst", shape, lmem_strides(shape, lanes), lane % lanes * machine.chip.lmem_bytes + offset)
    run(machine, side("src", shape, dense(shape), GMEM), local, trans_dir=G2L)
    back = {name.replace("dst", "src"): value for name, value in local.items()}
    run(machine, back, side("dst", shape, dense(shape), 0x8000), trans_dir=L2G)
    assert np.array_equal(read(machine, 0x8000, shape), data)


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 10), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(*[st.integers(0, 12)] * 6),
    st.integers(0, 30),
    st.sampled_from([(1, False), (2, False), (2, True)]),
    st.integers(0, 7),
)
def test_a_copy_onto_itself_goes_element_by_element_and_looks_up_behind_the_last(
    shape: Shape, strides: tuple[int, ...], ahead: int, kind: tuple[int, bool], lane: int
) -> None:
    size, looks_up = kind
    machine = Machine("cv181x", 1 << 12)
    machine.lmem[...] = np.random.default_rng(2).integers(0, 256, machine.lmem.shape, np.uint8)
    expected = bytearray(machine.lmem.tobytes())
    src, dst = (*strides[:3], size), (*strides[3:], size)
    src_addr, dst_addr = 0x100, lane * machine.chip.lmem_bytes + 0x100 + ahead
    read_addrs, write_addrs = (
        list(lmem_addrs(addr, shape, s, 8, 32768)) for addr, s in ((src_addr, src), (dst_addr, dst))
    )
    copy_in_order(expected, read_addrs, write_addrs, size)
    for addr in write_addrs if looks_up else ():
        pattern = int.from_bytes(expected[addr : addr + 2], "little")
        expected[addr : addr + 2] = lut_index_from_bf16(pattern).to_bytes(2, "little")
    fmt = {"src_fmt": size, "dst_fmt": size, "mv_lut_idx": int(looks_up)}
    run(machine, fmt, side("src", shape, src, src_addr), side("dst", shape, dst, dst_addr), trans_dir=L2L)
    assert machine.lmem.tobytes() == bytes(expected)


def test_an_overlapping_tensor_copy_smears_and_an_overlapping_general_copy_does_not() -> None:
    data = np.arange(1, 9, dtype=np.uint8)
    smeared, moved = machine_with(data), machine_with(data)
    shape = (1, 1, 1, 7)
    run(smeared, side("src", shape, dense(shape), GMEM), side("dst", shape, dense(shape), GMEM + 1), trans_dir=G2G)
    run(moved, trans_dir=G2G, trans_fmt=1, src_base_addr_low=GMEM, dst_base_addr_low=GMEM + 1, src_n_stride=7)
    assert read(smeared, GMEM, (8,)).tolist() == [1] * 8
    assert read(moved, GMEM, (8,)).tolist() == [1, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("width", [500, 1000])  # converted by a table and, from 1,024 elements on, by arithmetic
def test_rows_that_are_converted_onto_one_another_are_written_in_order(width: int) -> None:
    data = np.arange(2 * width, dtype=np.uint8)
    machine, shape = machine_with(data), (1, 1, 2, width)
    run(machine, side("src", shape, dense(shape), GMEM), side("dst", shape, (512, 512, 512, 2), 0x100), dst_fmt=2)
    written = machine.lmem[0, 0x100 : 0x100 + 512 + 2 * width].view(ml_dtypes.bfloat16)
    assert np.array_equal(written[:256], data[:256]) and np.array_equal(written[256:], data[width:])


def test_a_general_copy_runs_on_from_lane_to_lane() -> None:
    machine = machine_with(np.arange(20, dtype=np.uint8))
    run(machine, trans_dir=G2L, trans_fmt=1, src_base_addr_low=GMEM, dst_base_addr_low=2 * 32768 - 8, src_n_stride=20)
    assert machine.lmem[1, -8:].tolist() == list(range(8)) and machine.lmem[2, :12].tolist() == list(range(8, 20))


@given(SHAPES, st.booleans())
def test_nc_transposition_exchanges_n_and_c(shape: Shape, load: bool) -> None:
    data = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    machine = machine_with(data)
    turned = (shape[1], shape[0], *shape[2:])
    strides = lmem_strides(turned if load else shape, 8)
    if load:
        run(machine, side("dst", turned, strides, 0) | side("src", shape, dense(shape), GMEM), spec_func=1)
        local = side("src", turned, strides, 0)
        run(machine, side("dst", turned, dense(turned), 0x8000), local, trans_dir=L2G)
    else:
        run(machine, side("src", shape, dense(shape), GMEM), side("dst", shape, strides, 0))
        run(
            machine,
            side("dst", turned, dense(turned), 0x8000) | side("src", shape, strides, 0),
            trans_dir=L2G,
            spec_func=1,
        )
    assert np.array_equal(read(machine, 0x8000, turned), data.transpose(1, 0, 2, 3))


@given(SHAPES)
def test_cw_transposition_exchanges_c_and_w(shape: Shape) -> None:
    n, c, h, w = shape
    data = np.random.default_rng(4).integers(0, 256, shape, np.uint8)
    machine = machine_with(data)
    strides = lmem_strides(shape, 8)
    run(machine, side("src", shape, dense(shape), GMEM), side("dst", shape, strides, 0))
    turned = (n, w, h, c)
    run(
        machine,
        side("src", shape, strides, 0),
        side("dst", turned, dense(turned), 0x8000),
        trans_dir=L2G,
        spec_func=1,
        transpose_md=3,
    )
    assert np.array_equal(read(machine, 0x8000, turned), data.transpose(0, 3, 2, 1))


@pytest.mark.parametrize("channels", [3, 4])
def test_chw_rotation_takes_interleaved_pixels_apart(channels: int) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (5, 7, channels), np.uint8)
    machine = machine_with(pixels)
    shape = (1, channels, 5, 7)
    local = side("dst", shape, (48, 48, 7, 1), 0x40)
    run(machine, side("src", shape, (0, 1, 7 * channels, 0), GMEM), local, spec_func=1, transpose_md=channels - 2)
    planes = machine.lmem[:channels, 0x40 : 0x40 + 35].reshape(channels, 5, 7)
    assert np.array_equal(planes, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("columns", "w"), [(7, 3), (6, 3), (5, 8), (20, 1)])
def test_a_matrix_fills_its_channels_and_leaves_the_rest_of_the_last_alone(
    columns: int, w: int, transposed: bool
) -> None:
    rows, channels = 4, -(-columns // w)
    matrix = np.random.default_rng(6).integers(0, 255, (rows, columns), np.uint8)
    machine = machine_with(np.ascontiguousarray(matrix.T) if transposed else matrix)
    machine.lmem[...] = 255
    row_bytes, far = (rows, (columns, rows)) if transposed else (columns, (rows, columns))
    local = side("dst", (rows, channels, 1, w), (64, 16, w, 1), 0)
    source = {"src_c": far[0], "src_w": far[1], "src_c_stride_low": row_bytes, "src_base_addr_low": GMEM}
    run(machine, local | source, sys_dtype=1, spec_func=int(transposed))
    expected = np.full((rows, channels * w), 255, np.uint8)
    expected[:, :columns] = matrix
    for row, channel in product(range(rows), range(channels)):
        start = 64 * row + 16 * (channel // 8)
        assert np.array_equal(
            machine.lmem[channel % 8, start : start + w], expected[row, channel * w : (channel + 1) * w]
        )


def test_a_bf16_constant_fills_every_element_and_nothing_else() -> None:
    machine = Machine("cv181x", 1 << 12)
    shape, strides = (1, 9, 2, 3), (64, 16, 8, 2)
    run(machine, side("dst", shape, strides, 0x20), spec_func=4, src_fmt=2, dst_fmt=2, const_val=0x3F80)
    assert np.count_nonzero(machine.lmem) == 2 * 9 * 2 * 3
    assert machine.lmem[0, 0x20:0x40].view(np.uint16).tolist() == [0x3F80] * 3 + [0] + [0x3F80] * 3 + [0] + [
        0x3F80
    ] * 3 + [0] + [0x3F80] * 3 + [0]


def test_base_registers_shift_gmem_addresses() -> None:
    machine = machine_with(np.arange(16, dtype=np.uint8))
    machine.array_base = (0, 0, 0, GMEM - 8, 0, 0, 0, 0)
    run(machine, trans_fmt=1, src_base_reg_sel=3, src_base_addr_low=8, src_n_stride=16)
    assert machine.lmem[0, :16].tolist() == list(range(16))


def test_the_high_byte_of_an_lmem_address_is_left_out() -> None:
    machine = machine_with(np.arange(16, dtype=np.uint8))
    run(machine, trans_fmt=1, src_base_addr_low=GMEM, dst_base_addr_high=1, src_n_stride=16)
    assert machine.lmem[0, :16].tolist() == list(range(16))


def test_only_cv183x_turns_huge_bf16_numbers_into_zero() -> None:
    huge = np.array([0x5F7F, 0x5F80, 0xDF80], np.uint16)  # below, at and at minus 2**64
    results = {}
    for chip, base in (("cv181x", 0), ("cv183x", 1)):
        machine = Machine(chip, 1 << 12)
        machine.lmem[0, :6] = huge.view(np.uint8)
        shape = (1, 1, 1, 3)
        fields = side("src", shape, dense(shape, 2), 0) | side("dst", shape, dense(shape), 0)
        run(machine, fields, trans_dir=L2G, src_fmt=2, int8_sign=1, dst_base_addr_high=base)
        results[chip] = np.frombuffer(machine.gmem.read(0, 3), np.int8).tolist()
    assert results == {"cv181x": [127, 127, -128], "cv183x": [127, 0, 0]}


@pytest.mark.parametrize(("fmt", "signed"), [(1, 0), (1, 1), (2, 0)])
def test_what_is_compressed_comes_back_when_it_is_decompressed(fmt: int, signed: int) -> None:
    shape = (2, 11, 3, 5)
    data = np.clip(np.random.default_rng(7).normal(0, 9, (*shape, fmt)), -128, 127).astype(np.int8).view(np.uint8)
    machine = machine_with(data)
    strides, formats = (
        lmem_strides(shape, 8, fmt),
        {"src_fmt": fmt, "dst_fmt": fmt, "compress_en": 1, "cmprs_fmt": signed},
    )
    run(machine, side("src", shape, dense(shape, fmt), GMEM), side("dst", shape, strides, 0), src_fmt=fmt, dst_fmt=fmt)
    before = machine.lmem.copy()
    remote = side("dst", shape, dense(shape, fmt), 0x8000)
    run(machine, formats, side("src", shape, strides, 0), remote, trans_dir=L2G, compress_bias0=127 * (fmt == 2))
    machine.lmem[...] = 0
    run(machine, formats, side("dst", shape, strides, 0), src_base_addr_low=0x8000)
    assert np.array_equal(machine.lmem, before)


PLAIN = side("src", (1, 2, 3, 4), dense((1, 2, 3, 4)), GMEM) | side("dst", (1, 2, 3, 4), (16, 16, 4, 1), 0)
MATRIX = PLAIN | {"sys_dtype": 1, "src_n": 2, "dst_h": 1}
REFUSED = {
    "more elements in the destination": (PLAIN | {"dst_w": 5}, "equally many elements"),
    "an extent of 0": (PLAIN | {"src_h": 0, "dst_h": 0}, "extent below 1"),
    "bf16 to int8 on load": (PLAIN | {"src_fmt": 2}, "src_fmt, dst_fmt"),
    "format 0": (PLAIN | {"src_fmt": 0, "dst_fmt": 0}, "src_fmt, dst_fmt"),
    "a lane that does not exist": (PLAIN | {"dst_base_addr_low": 8 * 32768}, "LMEM has 8 lanes"),
    "the end of a lane": (PLAIN | {"dst_base_addr_low": 32768 - 11}, "ends at 0x8001"),
    "the end of GMEM": (PLAIN | {"src_base_addr_low": 0xFFFF}, "past GMEM's end"),
    "an address outside GMEM": (PLAIN | {"src_base_addr_high": 1}, "outside GMEM"),
    "a general copy past LMEM": (
        {"trans_fmt": 1, "src_n_stride": 9, "dst_base_addr_low": 8 * 32768 - 8},
        "end past LMEM",
    ),
    "a general copy that converts": ({"trans_fmt": 1, "src_n_stride": 9, "dst_fmt": 2}, "does not convert"),
    "a matrix with other rows": (MATRIX | {"src_n": 3}, "must be equal"),
    "a matrix with too few channels": (MATRIX | {"dst_c": 1, "dst_w": 3}, "ceil"),
    "a tall matrix": (MATRIX | {"dst_h": 2}, "a matrix has 1"),
    "a transposition to an odd address": (
        PLAIN | {"spec_func": 1, "transpose_md": 2, "src_c": 4, "dst_c": 4, "dst_base_addr_low": 8},
        "multiple of 16",
    ),
    "a rotation of 2 channels": (PLAIN | {"spec_func": 1, "transpose_md": 1}, "must be 3"),
    "a transposition to unlike shapes": (PLAIN | {"spec_func": 1, "dst_c": 3}, "n and c exchanged"),
    "a g2g matrix": (MATRIX | {"trans_dir": 2}, "no TDMA operation"),
    "a table index with a table base": (
        PLAIN | {"trans_dir": 3, "src_base_addr_low": 0, "src_fmt": 2, "dst_fmt": 2, "mv_lut_idx": 1, "mv_lut_base": 1},
        "at most one",
    ),
    "compression with a bias": (
        PLAIN
        | {
            "trans_dir": 1,
            "compress_en": 1,
            "src_base_addr_low": 0,
            "compress_bias0": 3,
            "dst_n_stride": 24,
            "dst_c_stride_low": 12,
        },
        "compress_bias0 is 3",
    ),
    "compression with gaps": (PLAIN | {"trans_dir": 1, "compress_en": 1, "src_base_addr_low": 0}, "must be dense"),
    "a damaged stream": (PLAIN | {"compress_en": 1}, "damaged"),
    "more elements onto one another than are followed": (
        PLAIN
        | {"src_n": 0xFFFF, "src_n_stride": 0, "src_h": 0x40, "dst_h": 0x40, "dst_n_stride": 0, "src_h_stride": 0},
        "onto one another",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_transfer_says_why_and_leaves_memory_alone(name: str) -> None:
    fields, reason = REFUSED[name]
    machine = machine_with(np.random.default_rng(8).integers(0, 256, 0x800, np.uint8))
    machine.lmem[...] = 7
    before = machine.gmem.bytes.copy()
    with pytest.raises((IllegalInstruction, AddressError), match=reason) as refusal:
        run(machine, fields)
    assert isinstance(refusal.value, NpusimError) and "command 0" in str(refusal.value)
    assert np.all(machine.lmem == 7) and np.array_equal(machine.gmem.bytes, before)


@pytest.mark.slow
def test_random_cases_cover_every_instruction_and_each_is_one_only() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(400):
        case = draw(rng, "cv181x")
        (regs,) = tdma_rows(Machine(case.chip, 0).chip, parse_cmdbuf(Machine(case.chip, 0).chip, case.cmdbuf).tdma)
        kinds = [kind for kind in TDMA_INSTRUCTIONS if kind.matches(regs)]
        assert len(kinds) == 1
        seen.update(kinds)
    assert seen == set(TDMA_INSTRUCTIONS)


def test_random_cases_are_the_same_under_the_same_seed() -> None:
    assert [draw(np.random.default_rng(9), "cv180x") for _ in range(2)] == [
        draw(np.random.default_rng(9), "cv180x") for _ in range(2)
    ]

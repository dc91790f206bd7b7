"""Tensor arithmetic against the scalar twins: every pair of bytes, every bf16 pattern, random draws beyond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npusim import Machine
from npusim.errors import AddressError, IllegalInstruction
from npusim.isa.opcodes import ArithEuTyp as Eu
from npusim.program.cmdbuf import build_cmdbuf
from tests.insn.elementwise import Bench
from tests.spec import arith, bf16, requant
from tests.spec.arith import Finish
from tests.support.case import tiu

A, B = (grid.ravel().astype(np.uint8) for grid in np.meshgrid(np.arange(256), np.arange(256)))
INT8 = (np.uint8, np.int8)
INT16 = (np.uint16, np.int16)


def _bytes(values: NDArray, signed: int) -> list[int]:
    return values.view(INT8[signed]).tolist()


def _pairs(eu_typ: Eu, signed: tuple[int, int], res_sign: int, wide: bool = False, **fields: int) -> Bench:
    signs = dict(
        opt_opd0_sign=signed[0], opt_opd1_sign=signed[1], opt_res0_sign=res_sign, opt_shift_typ=int(any(signed))
    )
    bench = Bench("cv181x", eu_typ, **{**signs, **fields})
    return bench.place("opd0", A).place("opd1", B).place("res0", np.zeros_like(A, np.uint16), wide)


@pytest.mark.slow
@pytest.mark.parametrize("signed", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(
    ("shift", "rounding", "wide"), [(0, 1, True), (3, 1, False), (3, 0, True), (9, 1, False), (31, 1, True)]
)
def test_mul_of_every_pair_of_bytes(signed: tuple[int, int], shift: int, rounding: int, wide: bool) -> None:
    sign = int(any(signed))
    got = _pairs(Eu.MUL, signed, sign, wide, opt_res_shift=shift, opt_rshift_typ=rounding).result(
        (INT16 if wide else INT8)[sign], wide
    )
    finish = Finish(16 if wide else 8, bool(sign), shift, bool(rounding), bool(sign))
    pairs = zip(_bytes(A, signed[0]), _bytes(B, signed[1]), strict=True)
    assert got.tolist() == [arith.mul(a, b, finish) for a, b in pairs]


@pytest.mark.parametrize("res_sign", [0, 1])
def test_relu_clips_at_zero_and_at_the_results_limit(res_sign: int) -> None:
    got = _pairs(Eu.MUL, (1, 1), res_sign, opt_res_shift=4, opt_relu_typ=1).result(INT8[res_sign])
    finish = Finish(8, bool(res_sign), 4, relu=True)
    assert got.tolist() == [arith.mul(a, b, finish) for a, b in zip(_bytes(A, 1), _bytes(B, 1), strict=True)]
    assert (got.min(), got.max()) == (0, 127 if res_sign else 255)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("multiplier", "shift"),
    [
        (1077952640, 6),
        ((1 << 31) - 1, 0),
        (1 << 31, 3),
        (0xC0000001, 31),
        (1 << 30, 62),
        (0x55555555, 37),
        (1 << 30, 32),
    ],
)
@pytest.mark.parametrize("wide", [False, True])
def test_mul_qm_of_every_pair_of_signed_bytes(multiplier: int, shift: int, wide: bool) -> None:
    fields = dict(opt_chl_quan=1, quan_m=multiplier, opt_res_shift=shift)
    got = _pairs(Eu.MUL, (1, 1), 1, wide, **fields).result((INT16 if wide else INT8)[1], wide)
    signed = requant.wrap(multiplier, 32)
    pairs = zip(_bytes(A, 1), _bytes(B, 1), strict=True)
    assert got.tolist() == [arith.mul_qm(a, b, signed, shift, Finish(16 if wide else 8)) for a, b in pairs]


@settings(max_examples=60)
@given(st.data())
def test_mac_wraps_at_32_bits_in_front_of_its_shift(data: st.DataObject) -> None:
    signed, left, right = data.draw(st.booleans()), data.draw(st.integers(0, 31)), data.draw(st.integers(0, 31))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    a, b, accumulator = (
        rng.integers(0, 256, 64, np.uint8),
        rng.integers(0, 256, 64, np.uint8),
        rng.integers(0, 1 << 16, 64, np.uint16),
    )
    signs = dict(
        opt_opd0_sign=int(signed), opt_opd1_sign=int(signed), opt_res0_sign=int(signed), opt_shift_typ=int(signed)
    )
    bench = Bench("cv180x", Eu.MAC, opt_left_shift=left, opt_res_shift=right, **signs).place("opd0", a).place("opd1", b)
    got = bench.place("res0", accumulator, wide=True).result(INT16[signed], wide=True)
    finish = Finish(16, signed, right, True, signed)
    operands = zip(_bytes(a, signed), _bytes(b, signed), accumulator.view(INT16[signed]).tolist(), strict=True)
    assert got.tolist() == [arith.mac(x, y, z, left, finish) for x, y, z in operands]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(*[st.integers(-(1 << 15), (1 << 15) - 1)] * 2), min_size=1, max_size=40),
    st.integers(0, 16),
    st.booleans(),
)
def test_add_and_sub_of_16_bits_shift_and_saturate(pairs: list[tuple[int, int]], shift: int, wide: bool) -> None:
    a, b = (np.array(column, np.int16) for column in zip(*pairs, strict=True))
    for eu_typ, sign in ((Eu.ADD, 1), (Eu.SUB, -1)):
        bench = Bench("cv183x", eu_typ, opt_res_shift=shift).place("opd0", a, True).place("opd1", b, True)
        got = bench.place("res0", np.zeros(len(a), np.int16), wide).result((INT16 if wide else INT8)[1], wide)
        finish = Finish(16 if wide else 8, shift=shift)
        assert got.tolist() == [finish(x + sign * y) for x, y in pairs]


def test_add_saturates_at_int8_limits() -> None:
    bench = (
        Bench("cv181x", Eu.ADD)
        .place("opd0", np.array([100, -100, 100, -128], np.int16), True)
        .constant("opd1", 28, True)
    )
    assert bench.place("res0", np.zeros(4, np.int16)).result(np.int8).tolist() == [127, -72, 127, -100]


@pytest.mark.parametrize("signed", [0, 1])
def test_max_min_and_ge_of_every_pair_of_bytes(signed: int) -> None:
    a, b = _bytes(A, signed), _bytes(B, signed)
    assert _pairs(Eu.MAX, (signed, signed), signed).result(INT8[signed]).tolist() == [
        max(p) for p in zip(a, b, strict=True)
    ]
    assert _pairs(Eu.MIN, (signed, signed), signed).result(INT8[signed]).tolist() == [
        min(p) for p in zip(a, b, strict=True)
    ]
    assert _pairs(Eu.GE, (signed, signed), signed).result(np.uint8).tolist() == [
        int(x >= y) for x, y in zip(a, b, strict=True)
    ]


SPECIAL = [0, 0x8000, 1, 0x807F, 0x0080, 0x8080, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7FC1, 0x3F80, 0xBF80, 0x5F80, 0x1F80]
PATTERN = st.sampled_from(SPECIAL) | st.integers(0, 0xFFFF) | st.integers(0x3E00, 0x4100)
FLOAT_TWINS = {
    Eu.MUL: bf16.mul, Eu.ADD: bf16.add, Eu.SUB: bf16.sub, Eu.MAX: bf16.maximum, Eu.MIN: bf16.minimum,
    Eu.GE: bf16.greater_equal,
}  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.tuples(PATTERN, PATTERN), min_size=1, max_size=40), st.booleans())
@pytest.mark.parametrize("eu_typ", FLOAT_TWINS)
def test_bf16_operations_are_the_twins(eu_typ: Eu, pairs: list[tuple[int, int]], relu: bool) -> None:
    a, b = (np.array(column, np.uint16) for column in zip(*pairs, strict=True))
    bench = Bench("cv181x", eu_typ, itemsize=2, opt_relu_typ=int(relu)).place("opd0", a).place("opd1", b)
    got = bench.place("res0", np.zeros_like(a)).result(np.uint16)
    twin, options = FLOAT_TWINS[eu_typ], (relu,) if eu_typ in (Eu.MUL, Eu.ADD, Eu.SUB) else ()
    assert got.tolist() == [twin(*pair, *options) for pair in pairs]


@settings(max_examples=100)
@given(st.lists(st.tuples(PATTERN, PATTERN, PATTERN), min_size=1, max_size=40), st.booleans())
def test_bf16_mac_is_the_twins(triples: list[tuple[int, int, int]], relu: bool) -> None:
    a, b, accumulator = (np.array(column, np.uint16) for column in zip(*triples, strict=True))
    bench = Bench("cv181x", Eu.MAC, itemsize=2, opt_relu_typ=int(relu)).place("opd0", a).place("opd1", b)
    assert bench.place("res0", accumulator).result(np.uint16).tolist() == [
        bf16.mac(*triple, relu) for triple in triples
    ]


def test_bf16_mac_cuts_its_sum_before_it_rounds() -> None:
    # The product lies on a tie of bf16; a negative accumulator far below pulls the exact sum under it.
    tie_a, tie_b, tiny = 0x3F81, 0x3FC0, 0xA000
    assert bf16.write(bf16.read(tie_a) * bf16.read(tie_b)) != bf16.mac(tie_a, tie_b, tiny)  # type: ignore[operator]
    bench = (
        Bench("cv181x", Eu.MAC, itemsize=2)
        .place("opd0", np.array([tie_a], np.uint16))
        .place("opd1", np.array([tie_b], np.uint16))
    )
    assert bench.place("res0", np.array([tiny], np.uint16)).result(np.uint16).tolist() == [bf16.mac(tie_a, tie_b, tiny)]


@pytest.mark.slow
def test_bf16_copy_of_every_pattern_is_canonical() -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    bench = Bench("cv181x", Eu.COPY, itemsize=2).place("opd0", patterns).place("res0", np.zeros_like(patterns))
    assert bench.result(np.uint16).tolist() == [bf16.copy(p) for p in patterns.tolist()]


@pytest.mark.parametrize(("opd_typ", "constant"), [(0, 0xA7), (1, 0x4049)])
def test_a_constant_is_copied_to_every_element(opd_typ: int, constant: int) -> None:
    machine, size = Machine("cv181x"), 1 + opd_typ
    shape = {
        f"{opd}_{dim}": extent for opd in ("res0", "opd0") for dim, extent in zip("nchw", (1, 8, 2, 16), strict=True)
    }
    steps = zip("nchw", (64, 64, 16 * size, size), strict=True)
    strides = {f"{opd}_{dim}_str": step for dim, step in steps for opd in ("res0", "opd0")}
    fields = dict(shape, **strides, tsk_typ=3, tsk_eu_typ=10, tsk_opd_num=1, short_res0_str=3, short_opd0_str=3)
    fields.update(opd_typ=opd_typ, opt_opd0_const=1, opd0_addr=constant, opt_opd1_sign=0, opt_shift_typ=0)
    machine.run_cmdbuf(build_cmdbuf(machine.chip, [tiu(machine.chip, **fields)]))
    found = machine.lmem[:, : 32 * size].view(np.uint16 if opd_typ else np.uint8)
    assert (found == constant).all()


@pytest.mark.parametrize(
    ("shape", "lane"),
    [((1, 8, 4, 16), 0), ((2, 24, 1, 16), 0), ((1, 13, 2, 16), 0), ((1, 8, 4, 16), 3)],
    ids=["plain", "wrapped wholly", "wrapped in part", "result wrapped"],
)
def test_an_overlapping_copy_reads_its_source_whole(shape: tuple[int, int, int, int], lane: int) -> None:
    machine = Machine("cv181x")
    machine.lmem[...] = np.random.default_rng(3).integers(0, 256, machine.lmem.shape, np.uint8)
    before = machine.lmem.copy()
    extents = {f"{opd}_{dim}": extent for opd in ("res0", "opd0") for dim, extent in zip("nchw", shape, strict=True)}
    strides = {
        f"{opd}_{dim}_str": step for opd in ("res0", "opd0") for dim, step in zip("nchw", (384, 64, 16, 1), strict=True)
    }
    fields = dict(extents, **strides, tsk_typ=3, tsk_eu_typ=10, tsk_opd_num=1, short_res0_str=3, short_opd0_str=3)
    fields.update(opt_opd1_sign=0, opt_shift_typ=0, opd0_addr=0x100, res0_addr=lane * 32768 + 0x110)
    machine.run_cmdbuf(build_cmdbuf(machine.chip, [tiu(machine.chip, **fields)]))
    for n, c, h, w in np.ndindex(*shape):
        turn, to_lane = divmod(lane + c, 8)
        rest = n * 384 + h * 16 + w
        assert machine.lmem[to_lane, 0x110 + turn * 64 + rest] == before[c % 8, 0x100 + c // 8 * 64 + rest]


REFUSED = [
    (Eu.MUL, {"tsk_opd_num": 1}, "tsk_opd_num is 1"),
    (Eu.MUL, {"res0_h": 0}, "every extent must be at least 1"),
    (Eu.MUL, {"opd1_w": 63}, "equal"),
    (Eu.MUL, {"short_opd0_str": 0}, "short_opd0_str is 0"),
    (Eu.MUL, {"opt_opd0_seg": 0}, "opt_opd0_seg is 0"),
    (Eu.MUL, {"opt_res0_sign": 0}, "opt_res0_sign is 0"),
    (Eu.MUL, {"opt_res_shift": 3, "opt_shift_typ": 0}, "opt_shift_typ is 0"),
    (Eu.MUL, {"opt_relu_typ": 2}, "opt_relu_typ is 2"),
    (Eu.MUL, {"opt_relu_typ": 1, "opt_res0_seg": 0}, "opt_res0_seg 0"),
    (Eu.MUL, {"opt_relu_typ": 1, "opt_opd0_sign": 0, "opt_opd1_sign": 0}, "unsigned operands"),
    (Eu.MUL, {"opt_res0_seg": 0, "res0_b_str": 0}, "res0_b_str is 0"),
    (Eu.MAC, {"opt_res_add": 0}, "opt_res_add is 0"),
    (Eu.ADD, {}, "opt_opd0_seg is 1"),
    (Eu.SUB, {"opt_opd0_seg": 0, "opt_opd1_seg": 0, "opt_res0_sign": 0, "opt_relu_typ": 1}, "a difference is signed"),
    (Eu.MAX, {"opt_res_shift": 1}, "does not shift"),
    (Eu.MAX, {"opt_opd1_sign": 0}, "one sign"),
    (Eu.MAX, {"opd_typ": 1}, "must be even"),
]


@pytest.mark.parametrize(("eu_typ", "changes", "sentence"), REFUSED)
def test_a_broken_rule_is_named_and_nothing_is_written(eu_typ: Eu, changes: dict[str, int], sentence: str) -> None:
    ones = np.ones(64, np.uint8)
    bench = Bench("cv181x", eu_typ).place("opd0", ones).place("opd1", ones).place("res0", ones)
    bench.fields.update(changes)
    before = bench.machine.lmem.copy()
    with pytest.raises(IllegalInstruction, match=sentence):
        bench.run()
    np.testing.assert_array_equal(bench.machine.lmem, before)


def test_an_operand_that_leaves_its_lane_is_refused() -> None:
    ones = np.ones(64, np.uint8)
    bench = Bench("cv181x", Eu.MUL).place("opd0", ones).place("opd1", ones).place("res0", ones)
    bench.fields["res0_addr"] = 32768 - 63
    with pytest.raises(AddressError, match="res0"):
        bench.run()


def test_ge_is_refused_by_name_where_the_chip_lacks_it() -> None:
    ones = np.ones(64, np.uint8)
    bench = Bench("cv183x", Eu.GE).place("opd0", ones).place("opd1", ones).place("res0", ones)
    with pytest.raises(IllegalInstruction, match="cv183x lacks the feature GE"):
        bench.run()


def test_cv183x_does_nothing_for_n_0() -> None:
    ones = np.ones(64, np.uint8)
    bench = Bench("cv183x", Eu.MUL).place("opd0", ones).place("opd1", ones).place("res0", 5 * ones)
    bench.fields.update(opd0_n=0, opd1_n=0, res0_n=0)
    assert (bench.result(np.uint8) == 5).all()

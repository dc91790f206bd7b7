"""Bitwise operations and shifts by tensors of counts, exhaustively."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
import pytest

from npusim.errors import IllegalInstruction
from npusim.isa.opcodes import ArithEuTyp as Eu
from tests.insn.elementwise import Bench
from tests.spec import arith

UNSIGNED = dict(opt_opd0_sign=0, opt_opd1_sign=0, opt_res0_sign=0, opt_shift_typ=0)
ALL = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize(("eu_typ", "twin"), [(Eu.AND, operator.and_), (Eu.OR, operator.or_), (Eu.XOR, operator.xor)])
def test_bitwise_of_every_pair_of_bytes_and_of_random_words(eu_typ: Eu, twin: Callable[[int, int], int]) -> None:
    a, b = (ALL & 255).astype(np.uint8), (ALL >> 8).astype(np.uint8)
    bench = Bench("cv181x", eu_typ, **UNSIGNED).place("opd0", a).place("opd1", b).place("res0", np.zeros_like(a))
    assert bench.result(np.uint8).tolist() == [twin(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    words = np.random.default_rng(1).integers(0, 1 << 16, (2, 5000), np.uint16)
    bench = Bench("cv181x", eu_typ, **UNSIGNED).place("opd0", words[0], True).place("opd1", words[1], True)
    got = bench.place("res0", np.zeros_like(words[0]), True).result(np.uint16, wide=True)
    assert got.tolist() == [twin(x, y) for x, y in zip(*words.tolist(), strict=True)]


@pytest.mark.parametrize("count", range(-16, 17))
@pytest.mark.parametrize("signed", [0, 1])
def test_shift_of_every_16_bit_number_wraps_to_the_left_and_floors_to_the_right(count: int, signed: int) -> None:
    fields = dict(opt_opd0_sign=signed, opt_shift_typ=signed, opt_rshift_typ=0)
    bench = Bench("cv181x", Eu.SHIFT, **fields).place("opd0", ALL, True).constant("opd1", count & 255)
    got = bench.place("res0", np.zeros_like(ALL), True).result(np.uint16, wide=True)
    values = ALL.view(np.int16 if signed else np.uint16).tolist()
    assert got.tolist() == [arith.arith_shift(value, count) for value in values]


def test_every_element_has_a_count_of_its_own() -> None:
    counts = np.arange(-16, 17, dtype=np.int8)
    values = np.full(33, -12345, np.int16)
    bench = Bench("cv180x", Eu.SHIFT, opt_rshift_typ=0).place("opd0", values, True).place("opd1", counts)
    got = bench.place("res0", np.zeros_like(values), True).result(np.uint16, wide=True)
    assert got.tolist() == [arith.arith_shift(-12345, count) for count in counts.tolist()]


@pytest.mark.parametrize("count", [17, -17, 127, -128])
def test_a_count_beyond_16_is_refused_and_nothing_is_written(count: int) -> None:
    values, counts = np.ones(64, np.int16), np.zeros(64, np.int8)
    counts[40] = count
    bench = (
        Bench("cv181x", Eu.SHIFT, opt_rshift_typ=0)
        .place("opd0", values, True)
        .place("opd1", counts)
        .place("res0", values, True)
    )
    before = bench.machine.lmem.copy()
    with pytest.raises(IllegalInstruction, match=f"shift count {count}"):
        bench.run()
    np.testing.assert_array_equal(bench.machine.lmem, before)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"opt_opd0_seg": 0}, "one width"),
        ({"opt_opd1_sign": 1}, "unsigned"),
        ({"opt_res_shift": 1, "opt_shift_typ": 1}, "opt_shift_typ is 1"),
        (
            {f"opt_{opd}_seg": 0 for opd in ("res0", "opd0", "opd1")} | {"res0_addr": 32700, "res0_b_str": 100},
            "another lane",
        ),
    ],
)
def test_bitwise_refuses_what_it_cannot_mean(changes: dict[str, int], sentence: str) -> None:
    ones = np.ones(64, np.uint8)
    bench = Bench("cv181x", Eu.XOR, **UNSIGNED).place("opd0", ones).place("opd1", ones).place("res0", ones)
    bench.fields.update(changes)
    with pytest.raises(IllegalInstruction, match=sentence):
        bench.run()

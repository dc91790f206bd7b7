"""Instructions on bf16 patterns against ml_dtypes and against plain Python fractions."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_model.quant import arith, products
from reference_model.quant.arith import Patterns

ORDINARY = st.integers(-(1 << 14), 1 << 14).map(lambda mantissa: np.float32(mantissa) * np.float32(2.0**-7))


def bf16_numbers(shape: tuple[int, ...], seed: int) -> Patterns:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * np.exp2(rng.integers(-12, 12, shape))
    return values.astype(ml_dtypes.bfloat16).view(np.uint16)


def as_ml(patterns: Patterns) -> np.ndarray:
    return patterns.view(ml_dtypes.bfloat16)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "maximum", "minimum"])
def test_ordinary_numbers_give_what_ml_dtypes_gives(name: str) -> None:
    a, b = bf16_numbers((100_000,), 1), bf16_numbers((100_000,), 2)
    expected = getattr(np, {"sub": "subtract", "mul": "multiply"}.get(name, name))(as_ml(a), as_ml(b)).astype(
        ml_dtypes.bfloat16
    )
    np.testing.assert_array_equal(getattr(arith, name)(a, b), expected.view(np.uint16))


def toward_zero(value: Fraction, bits: int) -> Fraction:
    """`value` cut to `bits` significant bits."""
    if value == 0:
        return value
    magnitude, exponent = abs(value), 0
    while magnitude >= 1 << bits:
        magnitude, exponent = magnitude / 2, exponent + 1
    while magnitude < 1 << (bits - 1):
        magnitude, exponent = magnitude * 2, exponent - 1
    cut = Fraction(int(magnitude)) * Fraction(2) ** exponent
    return cut if value > 0 else -cut


def dot_by_fractions(left: list[float], right: list[float]) -> float:
    """One product at a time, every sum cut to float32's 24 bits."""
    total = Fraction(0)
    for a, b in zip(left, right, strict=True):
        total = toward_zero(total + Fraction(a) * Fraction(b), 24)
    return float(total)


def test_matmul_adds_in_ascending_order() -> None:
    left, right = bf16_numbers((3, 32), 3), bf16_numbers((32, 5), 4)
    a, b = arith.floats(left).tolist(), arith.floats(right).T.tolist()
    expected = [[dot_by_fractions(row, column) for column in b] for row in a]
    np.testing.assert_array_equal(arith.matmul_float(left, right), np.array(expected, np.float32))
    np.testing.assert_array_equal(arith.matmul(left, right), np.array(expected, ml_dtypes.bfloat16).view(np.uint16))


def test_row_dot_adds_exact_products_of_each_row() -> None:
    a, b = bf16_numbers((70, 24), 5), bf16_numbers((70, 24), 6)
    expected = [
        [dot_by_fractions(x, y)] for x, y in zip(arith.floats(a).tolist(), arith.floats(b).tolist(), strict=True)
    ]
    np.testing.assert_array_equal(arith.row_dot(a, b), np.array(expected, ml_dtypes.bfloat16).view(np.uint16))


@given(
    seed=st.integers(0, 99), rows=st.integers(1, 9), depth=st.integers(1, 700), width=st.integers(1, 130),
    special=st.sampled_from([None, 0x0001, 0x8000, 0x0080, 0x7F80, 0x7FC0, 0x7F7F]), native=st.booleans(),
)  # fmt: skip
def test_a_matrix_kept_for_many_reads_gives_the_same_bits(
    seed: int, rows: int, depth: int, width: int, special: int | None, native: bool
) -> None:
    left, right = bf16_numbers((rows, depth), seed), bf16_numbers((depth, width), seed + 1)
    if special is not None:
        right[depth // 2, width // 2] = special
    with pytest.MonkeyPatch.context() as patch:
        if not native:
            patch.setattr(products, "sums_in_order", lambda *shape: False)
        kept = arith.matmul_float(left, arith.Matrix.of(right))
    np.testing.assert_array_equal(kept.view(np.uint32), arith.matmul_float(left, right).view(np.uint32))


@given(st.lists(st.tuples(ORDINARY, ORDINARY, ORDINARY), min_size=1, max_size=20))
def test_mac_rounds_its_sum_toward_zero_and_then_to_nearest(
    triples: list[tuple[np.float32, np.float32, np.float32]],
) -> None:
    columns = [arith.patterns(np.array(column, np.float32)) for column in zip(*triples, strict=True)]
    accumulator, a, b = (arith.floats(column).tolist() for column in columns)
    sums = [
        float(toward_zero(Fraction(x) + Fraction(y) * Fraction(z), 24))
        for x, y, z in zip(accumulator, a, b, strict=True)
    ]
    expected = np.array(sums, np.float32).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(
        arith.mac(*columns), (expected + np.float32(0)).astype(ml_dtypes.bfloat16).view(np.uint16)
    )


def test_row_max_keeps_its_axis() -> None:
    x = bf16_numbers((5, 40), 9)
    np.testing.assert_array_equal(
        as_ml(arith.row_max(x)).astype(np.float32), as_ml(x).astype(np.float32).max(-1, keepdims=True)
    )

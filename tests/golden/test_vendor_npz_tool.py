"""What the vendor's npz_tool says of the same tensors.

Recorded with tpu_mlir 1.30.2: `npz_tool.py compare target.npz reference.npz -v -a --tolerance 0.99,0.9`, which prints
six decimals and sums in float32. The arrays are those of CASES; the tool spells its fifth verdict NOT_SIMLIAR."""

from __future__ import annotations

import math

import numpy as np
import pytest

from golden import Verdict, compare


def cut(values: np.ndarray) -> np.ndarray:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def made(count: int, modulus: int, scale: int) -> np.ndarray:
    """64 float32 numbers from -1 to 1 or more, without a random generator so that the recorded figures stay true."""
    return ((np.arange(64) * count % modulus - modulus // 2) / scale).astype(np.float32)


WAVE, RIPPLE = made(37, 101, 16), made(53, 97, 48)
INTEGERS, BUMP = (WAVE * 16).astype(np.int8), (np.arange(64) == 5).astype(np.int8)
CASES = {
    "tiny_noise": (WAVE * (1 + RIPPLE * np.float32(2**-12)), WAVE),
    "small_noise": (WAVE + RIPPLE / 16, WAVE),
    "large_noise": (WAVE + RIPPLE, WAVE),
    "scaled": (WAVE * np.float32(1.0625), WAVE),
    "opposite": (-WAVE, WAVE),
    "target_zero": (WAVE * 0, WAVE),
    "reference_zero": (WAVE, WAVE * 0),
    "bf16": (cut(WAVE + RIPPLE / 16), cut(WAVE)),
    "bf16_and_float32": (cut(WAVE + RIPPLE / 16), WAVE),
    "int8_same": (INTEGERS, INTEGERS),
    "int8_off_by_one": (INTEGERS + BUMP, INTEGERS),
    "int32_off_by_one": (INTEGERS + BUMP.astype(np.int32), INTEGERS.astype(np.int32)),
    "uint8_off_by_one": ((INTEGERS + 51 + BUMP).astype(np.uint8), (INTEGERS + 51).astype(np.uint8)),
}


RECORDED = {
    "small_noise": (Verdict.SIMILAR, 0.999813, 0.980328, 34.155536),
    "large_noise": (Verdict.NOT_SIMILAR, 0.959336, 0.696591, 10.866034),
    "scaled": (Verdict.SIMILAR, 1.000000, 0.939394, 24.608979),
    "opposite": (Verdict.NOT_SIMILAR, -1.000000, -295452512.104898, -6.020600),
    "target_zero": (Verdict.NOT_SIMILAR, 0.000000, -1.000000, math.inf),
    "reference_zero": (Verdict.NOT_SIMILAR, 0.000000, -1.000000, 0.000000),
    "bf16": (Verdict.SIMILAR, 0.999816, 0.980798, 34.342957),
    "bf16_and_float32": (Verdict.SIMILAR, 0.999816, 0.980798, 34.342957),
    "int32_off_by_one": (Verdict.SIMILAR, 0.999991, 0.995770, 47.545071),
    "uint8_off_by_one": (Verdict.SIMILAR, 0.999998, 0.997872, 47.545071),
}


@pytest.mark.parametrize("name", RECORDED)
def test_verdict_and_similarities_are_those_of_npz_tool(name: str) -> None:
    target, reference = CASES[name]
    found = compare({name: target}, {name: reference}, "0.99,0.9", integers_equal=False)[name]
    verdict, cosine, euclidean, sqnr = RECORDED[name]
    assert found.verdict is verdict and found.errors is not None
    assert found.errors.cosine == pytest.approx(cosine, abs=1e-6)
    assert found.errors.euclidean == pytest.approx(euclidean, rel=1e-6, abs=1e-6)
    assert found.errors.sqnr_db == pytest.approx(sqnr, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("tiny_noise", Verdict.CLOSE), ("int8_same", Verdict.EQUAL), ("int8_off_by_one", Verdict.NOT_EQUAL)],
)
def test_verdict_without_similarities_is_that_of_npz_tool(name: str, verdict: Verdict) -> None:
    target, reference = CASES[name]
    assert compare({name: target}, {name: reference}, "0.99,0.9")[name].verdict is verdict


def test_half_a_tensor_is_not_match_where_npz_tool_crops_and_says_equal() -> None:
    assert compare({"x": WAVE[:32]}, {"x": WAVE}, "0.99,0.9")["x"].verdict is Verdict.NOT_MATCH

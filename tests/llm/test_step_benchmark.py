"""The step that the vendor's compiler can compile: npusim's own lowering gives its results, and is predicted to be as
fast."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.step import BOARDS, FORMATS, cosine, own_ms, vendor_ms, vendor_weights
from benchmarks.support.layer_norm_step import StepWeights
from npusim.board import board_named


@cache
def weights() -> StepWeights:
    return vendor_weights()


@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize("board", BOARDS)
def test_own_lowering_is_predicted_at_least_as_fast_as_the_vendors_program(board: str, precision: str) -> None:
    on = board_named(board)
    assert own_ms(on, precision, weights()) <= vendor_ms(on, precision)


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.9999), ("int8", 0.9999)])
@pytest.mark.parametrize("board", BOARDS)
def test_own_logits_are_those_of_the_vendors_program(board: str, precision: str, least: float) -> None:
    assert cosine(board_named(board), precision, weights()) >= least

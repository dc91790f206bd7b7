"""What several rows and prompts cost on a board: SmolLM2-135M in int8 on a Duo 256M, context 512, budget 256."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import pytest

from benchmarks.llm import ENOUGH, SMOLLM2
from npusim.board import board_named
from npusim.llm.lowering import lower
from npusim.llm.predict import Predictor, StepTime
from npusim.llm.setup import Setup, Submit

pytestmark = pytest.mark.slow

LAYERS = 2, 3
"""A layer's programs differ from another layer's in addresses alone: all of them follow from two and three."""


@cache
def predictors() -> tuple[Predictor, Predictor]:
    setup = Setup(board_named("duo256m"), "int8", 512, 256, submit=Submit.TOKEN, rows=8, pool=2048, ion_bytes=ENOUGH)
    few, more = (Predictor(lower(replace(SMOLLM2, num_layers=n, sliding_layers=(False,) * n), setup)) for n in LAYERS)
    return few, more


def of_all(few: float, more: float) -> float:
    return few + (SMOLLM2.num_layers - LAYERS[0]) * (more - few)


def step(rows: int) -> StepTime:
    few, more = (predictor.decode(512, rows) for predictor in predictors())
    return StepTime(**{f.name: of_all(getattr(few, f.name), getattr(more, f.name)) for f in fields(StepTime)})


def prompt_ms(num_tokens: int) -> float:
    few, more = (predictor.prefill_ms(num_tokens) for predictor in predictors())
    return of_all(few, more)


def test_eight_rows_take_at_most_half_as_long_again_as_one() -> None:
    assert step(8).chip_ms <= 1.5 * step(1).chip_ms
    assert step(8).tokens_per_second >= 4.5 * step(1).tokens_per_second


def test_a_prompt_of_256_tokens_takes_at_most_1_3_s_and_one_of_16_at_most_120_ms() -> None:
    assert prompt_ms(256) <= 1300 and prompt_ms(16) <= 120


def test_one_row_comes_near_the_bound_that_its_own_reads_set() -> None:
    """Weights, pages and boxes at the speed of large blocks are 85 % of what the weights take at the nominal one."""
    few, more = (predictor.lowered.layout.weights.matrix_bytes for predictor in predictors())
    board, setup = predictors()[0].board, predictors()[0].lowered.setup
    weights = of_all(few, more)
    pages = 2 * SMOLLM2.num_layers * SMOLLM2.num_kv_heads * setup.num_slots * 16 * 2 * SMOLLM2.head_dim
    boxes = SMOLLM2.num_layers * SMOLLM2.num_kv_heads * 2 * SMOLLM2.head_dim * 2 * setup.num_pages
    nominal_ms = weights / board.peak_gbps / 1e6
    least_ms = (weights + pages + boxes) / (0.89 * board.peak_gbps) / 1e6
    assert nominal_ms / least_ms < 0.85
    assert 0.80 <= nominal_ms / step(1).chip_ms <= nominal_ms / least_ms

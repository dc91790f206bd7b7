"""Kernels that compute the same in every order of the engines (tests/kernels) have no faults."""

from __future__ import annotations

import numpy as np
import pytest

from npusim.check import check
from npusim.chip import CHIPS
from npusim.program.cmdbuf import parse_cmdbuf
from tests.kernels.record import MAKERS
from tests.llm.lowering import lowered


@pytest.mark.slow
@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"calls"}))
def test_nothing_is_found_in_kernels(name: str, chip) -> None:  # type: ignore[no-untyped-def]
    for seed in range(3):
        checked = MAKERS[name].draw(np.random.default_rng(seed), chip.name)
        assert check(parse_cmdbuf(chip, checked.case.raw)) == [], f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("board", ["duo", "duo256m"])
def test_nothing_is_found_in_the_decode_step_of_a_language_model(board: str) -> None:
    low = lowered("int8", 512, 128, board)
    for name, program in low.programs.items():
        assert check([parse_cmdbuf(program.chip, data) for data in program.cmdbufs]) == [], name

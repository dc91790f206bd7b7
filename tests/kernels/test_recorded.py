"""Kernel programs leave the memory that the vendor's functional model left, LMEM and GMEM, byte for byte."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from npusim.chip import CHIPS
from tests.kernels.harness import run
from tests.kernels.record import digest, draw_all
from tests.support.chips import EACH_CHIP
from tests.support.vendor import run_vendor

RECORD = json.loads((Path(__file__).parents[2] / "golden" / "data" / "kernels.json").read_text())


@pytest.mark.parametrize("chip", EACH_CHIP)
def test_kernels_leave_the_memory_that_the_model_left(chip) -> None:  # type: ignore[no-untyped-def]
    for name, case in draw_all(chip.name):
        outcome = run(case.case)
        case.assert_equals_twin(outcome)
        assert digest(case.case, outcome) == RECORD[name], (
            f"{name} (where its program changed: python -m tests.kernels.record)"
        )


@pytest.mark.skipif("CVI_LIB" not in os.environ, reason="CVI_LIB does not name the vendor's model")
@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_kernels_leave_the_memory_that_the_model_leaves(chip) -> None:  # type: ignore[no-untyped-def]
    names, cases = zip(*draw_all(chip.name), strict=True)
    for name, case, theirs in zip(names, cases, run_vendor([c.case for c in cases]), strict=True):
        assert theirs == run(case.case), name

"""npusim against the vendor's functional model.

Recorded outcomes are compared everywhere, live ones where CVI_LIB names the model."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest

from npusim.chip import CHIPS, Chip
from tests.differential.campaign import RECORDED, compare, digest, draw_cases
from tests.support.case import run_npusim
from tests.support.chips import EACH_CHIP

RECORD = json.loads((Path(__file__).parents[2] / "golden" / "data" / "differential.json").read_text())


@pytest.mark.parametrize("chip", EACH_CHIP)
@pytest.mark.parametrize("generator", sorted({name.split()[1] for name in RECORD}))
def test_recorded_descriptors_leave_the_memory_that_the_model_left(chip: Chip, generator: str) -> None:
    name, module = f"{chip.name} {generator}", importlib.import_module(f"tests.differential.{generator}")
    cases = list(draw_cases(chip.name, 2026, RECORDED, (module,)))
    assert len(RECORD[name]) > RECORDED // 3
    for index, wanted in RECORD[name].items():
        case = cases[int(index)]
        assert digest(case, None) == wanted.split(":")[0], (
            "the generator draws other cases than when this was recorded; record again"
        )
        assert digest(case, run_npusim(case)) == wanted, f"case {index} ({case.kind})"


@pytest.mark.skipif("CVI_LIB" not in os.environ, reason="CVI_LIB does not name the vendor's model")
@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_random_descriptors_leave_the_memory_that_the_model_leaves(chip) -> None:  # type: ignore[no-untyped-def]
    seed = int.from_bytes(os.urandom(3), "little")
    tally = compare(chip.name, draw_cases(chip.name, seed, 150))
    assert not tally.differences, f"seed {seed}: {tally.differences[:5]}"

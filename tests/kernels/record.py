"""Kernel programs on the vendor's functional model, and what it left in memory, kept for machines without it.

CVI_LIB=DIR python -m tests.kernels.record golden/data/kernels.json
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from npusim.chip import CHIPS
from tests.kernels import attention_case, cache_case, calls_case, head_case, int8_case, layers_case, matmul_case
from tests.kernels.cvikernel_case import ours, theirs
from tests.kernels.harness import Checked, ProgramCase
from tests.support.case import Outcome
from tests.support.vendor import run_vendor

MAKERS: dict[str, ModuleType] = {
    "calls": calls_case,
    "matmul": matmul_case,
    "layers": layers_case,
    "attention": attention_case,
    "head": head_case,
    "cache": cache_case,
    "int8": int8_case,
}
SEEDS = {"calls": 1, "matmul": 8, "layers": 15, "attention": 8, "head": 8, "cache": 8, "int8": 6}
"""Cases of each maker and chip."""


def draw_all(chip: str) -> Iterator[tuple[str, Checked]]:
    for name, maker in MAKERS.items():
        for seed in range(SEEDS[name]):
            yield f"{chip} {name} {seed}", maker.draw(np.random.default_rng(seed), chip)


def digest(case: ProgramCase, outcome: Outcome) -> str:
    """Of what goes in and of what comes out; LMEM counts as well."""
    text = hashlib.sha256(case.raw)
    for data in case.gmem.values():
        text.update(data)
    result = hashlib.sha256(outcome.lmem)
    for data in outcome.gmem.values():
        result.update(data)
    return f"{text.hexdigest()[:16]}:{result.hexdigest()[:16]}"


def main() -> None:
    record = {}
    for chip in CHIPS:
        names, cases = zip(*draw_all(chip.name), strict=True)
        for name, case, outcome in zip(names, cases, run_vendor([c.case for c in cases]), strict=True):
            if outcome is None:
                raise SystemExit(f"{name}: the model stopped")
            case.assert_equals_twin(outcome)
            record[name] = digest(case.case, outcome)
    for name in ("cv180x", "cv181x"):
        record[f"{name} cvikernel"] = hashlib.sha256(theirs(name, ours(name)[1])).hexdigest()
    Path(sys.argv[1]).write_text(json.dumps(record, indent=0) + "\n")


if __name__ == "__main__":
    main()

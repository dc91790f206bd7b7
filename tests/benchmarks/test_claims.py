"""The list of claims, and what was last recorded of each."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import markdown
from benchmarks.claim import Claim
from benchmarks.claims import CLAIMS
from benchmarks.results import RESULTS, read_results

ROOT = Path(__file__).parents[2]
FRAME = {"__init__", "__main__", "claim", "claims", "cpu", "needs", "results"}
"""Files of benchmarks/ that measure nothing."""


def measures() -> Iterator[str]:
    """Every function in benchmarks/ that takes a Say alone and gives a number, as a claim names it."""
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        if path.stem not in FRAME:
            module = import_module(f"benchmarks.{path.stem}")
            for name, function in inspect.getmembers(module, inspect.isfunction):
                if function.__annotations__ == {"say": "Say", "return": "float"}:
                    yield f"{path.stem}.{name}"


def test_names_are_unique() -> None:
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_is_a_sentence_with_a_bound_in_a_unit(claim: Claim) -> None:
    assert claim.claim.endswith(".") and ". " not in claim.claim
    assert math.isfinite(claim.bound) and claim.unit
    assert claim.is_met(claim.bound)
    worse = claim.bound + 1 if claim.better == "lower" else claim.bound - 1
    assert not claim.is_met(worse)


def test_the_claims_are_what_the_files_of_benchmarks_measure() -> None:
    assert sorted(claim.name for claim in CLAIMS) == sorted(measures())


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_every_claim_has_a_last_figure_or_a_reason_for_none(claim: Claim) -> None:
    result = read_results(RESULTS)[claim.name]
    assert bool(result.reason) == (result.figure is None)
    assert result.figure is None or math.isfinite(result.figure)
    at = result.conditions
    assert date.fromisoformat(at.date) and at.cpu and at.cores >= 1 and at.python and at.numpy and at.commit


def test_results_name_only_claims_that_exist() -> None:
    assert set(read_results(RESULTS)) <= {claim.name for claim in CLAIMS}


def test_the_table_in_the_docs_is_that_of_the_claims() -> None:
    assert markdown(CLAIMS) in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_listing_the_claims_imports_no_benchmark() -> None:
    code = "import sys; from benchmarks.__main__ import main; main([]); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0

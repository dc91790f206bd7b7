"""A share of the benchmark's faults, in a program of each of three chips.

benchmarks/check.py seeds a thousand of them in all."""

from __future__ import annotations

import pytest

from benchmarks.check import MODELS, seeded
from npusim.check import Severity, check_model

NAMES = ("conv_cv183x_int8", "mix_cv180x_int8", "step_cv182x_int8")


@pytest.mark.slow
def test_at_least_95_percent_of_seeded_faults_are_found() -> None:
    faults = list(seeded(48, 3, [path for path in MODELS if path.stem in NAMES], tries=100))
    assert len(faults) > 40
    missed = [f"{fault.path.stem}: {fault.what}" for fault in faults if not _is_found(fault)]
    assert len(missed) <= 0.05 * len(faults), missed


def _is_found(fault) -> bool:  # type: ignore[no-untyped-def]
    return any(finding.severity == Severity.ERROR for finding in check_model(fault.model()))

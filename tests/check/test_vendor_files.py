"""Programs of the vendor's compiler have no faults but the two of the compiler itself (docs/check.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from npusim.check import Kind, Severity, check_model
from npusim.loader.cvimodel import load_cvimodel

MODELS = sorted((Path(__file__).parents[2] / "golden" / "data" / "functional").glob("*.cvimodel"))
COMPILER_FAULTS = {
    "mix_cv183x_int8": [(11,)],  # grouped convolution: records of channels that wrap round the lanes were never loaded
    "step_cv180x_bf16": [(153,)],  # a bf16 tensor is taken for the two planes of a float32 bias
    "step_cv181x_bf16": [(151,)],
    "step_cv182x_bf16": [(151,)],
    "step_cv183x_bf16": [(151,)],
}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_nothing_but_the_compilers_own_faults_is_found_and_those_are_warnings(path: Path) -> None:
    findings = check_model(load_cvimodel(path))
    assert [finding.commands for finding in findings] == COMPILER_FAULTS.get(path.stem, [])
    assert all(finding.kind == Kind.PARTLY_UNSET and finding.severity == Severity.WARNING for finding in findings)


def test_all_models_are_there() -> None:
    assert len(MODELS) == 32

"""Programs of the vendor's compiler have no faults but the three of the compiler itself (docs/check.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from npusim.check import Kind, Severity, check_model
from npusim.loader.cvimodel import load_cvimodel

MODELS = sorted((Path(__file__).parents[2] / "golden" / "data" / "functional").glob("*.cvimodel"))
BIAS_OF_BF16 = "a bf16 tensor is loaded as the two planes of a float32 bias, so its low halves are whatever lies behind it"
OUTPUT_REUSED = "the output onnx::Concat_34_Reshape_f32 lies where the CPU quantises an input later"
COMPILER_FAULTS = {
    "mix_cv183x_int8": (Kind.PARTLY_UNSET, 11, "grouped convolution: records of the channels that wrap round the lanes were never loaded"),
    "step_cv180x_bf16": (Kind.PARTLY_UNSET, 153, BIAS_OF_BF16),
    "step_cv181x_bf16": (Kind.PARTLY_UNSET, 151, BIAS_OF_BF16),
    "step_cv182x_bf16": (Kind.PARTLY_UNSET, 151, BIAS_OF_BF16),
    "step_cv183x_bf16": (Kind.PARTLY_UNSET, 151, BIAS_OF_BF16),
    **{f"step_{chip}_int8": (Kind.OUTPUT_LOST, 37, OUTPUT_REUSED) for chip in ("cv180x", "cv181x", "cv182x", "cv183x")},
}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_there_are_no_errors_and_only_the_compilers_own_faults_are_warnings(path: Path) -> None:
    findings = check_model(load_cvimodel(path))
    wanted = [COMPILER_FAULTS[path.stem][:2]] if path.stem in COMPILER_FAULTS else []
    assert [(finding.kind, *finding.commands) for finding in findings] == wanted
    assert all(finding.severity == Severity.WARNING for finding in findings)


def test_all_models_are_there() -> None:
    assert len(MODELS) == 32

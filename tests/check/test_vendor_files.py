"""Programs of the vendor's compiler have no faults but those of the compiler itself (docs/check.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npusim.check import Kind, Severity, check_model, check_program
from npusim.loader.cvimodel import load_cvimodel
from npusim.program import assemble
from tests.support.oracle import Subject, eager

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
MODELS = sorted(DATA.glob("*.cvimodel"))
BIAS_OF_BF16 = (
    "a bf16 tensor is loaded as the two planes of a float32 bias, so its low halves are whatever lies behind it"
)
OUTPUT_REUSED = "the output onnx::Concat_34_Reshape_f32 lies where the CPU quantises an input later"
STALE_BIAS = "another residual, whose low halves are left of an earlier tensor"
COMPILER_FAULTS = {
    "mix_cv183x_int8": {11: "grouped convolution: records of channels that wrap round the lanes were never loaded"},
    "step_cv180x_bf16": {153: BIAS_OF_BF16, 214: STALE_BIAS, 218: STALE_BIAS, 222: STALE_BIAS},
    "step_cv181x_bf16": {151: BIAS_OF_BF16, 196: STALE_BIAS},
    "step_cv182x_bf16": {151: BIAS_OF_BF16, 196: STALE_BIAS},
    "step_cv183x_bf16": {151: BIAS_OF_BF16, 196: STALE_BIAS},
    **{f"step_{chip}_int8": {37: OUTPUT_REUSED} for chip in ("cv180x", "cv181x", "cv182x", "cv183x")},
}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_compilers_own_faults_are_found_and_nothing_else(path: Path) -> None:
    findings = check_model(load_cvimodel(path))
    in_steps = Kind.OUTPUT_LOST if path.stem.endswith("int8") else Kind.PARTLY_UNSET
    kind = in_steps if path.stem.startswith("step") else Kind.UNINITIALISED
    wanted = [(kind, command) for command in COMPILER_FAULTS.get(path.stem, ())]
    assert [(finding.kind, *finding.commands) for finding in findings] == wanted
    severity = Severity.WARNING if path.stem.startswith("step") else Severity.ERROR
    assert all(finding.severity == severity for finding in findings)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("plane_overwritten.cvimodel", set()),  # of a result in two planes, the one that nobody reads
        ("tables_never_loaded.cvimodel", {Kind.UNREAD}),  # softmax of one element takes no table
        ("prelu_in_place.s", {Kind.UNUSED}),  # a depthwise convolution of 1x1 over its own ifmap; the text is cut short
    ],
)
def test_what_changes_no_result_is_no_error(name: str, kinds: set[Kind], tmp_path: Path) -> None:
    path = Path(__file__).with_name("data") / name
    if path.suffix == ".s":
        (assembled,) = assemble(path.read_text())
        path = tmp_path / "cmdbuf"
        path.write_bytes(assembled.data)
    findings = check_program(path, verify_md5=False)
    assert {finding.kind for finding in findings} == kinds
    assert all(finding.severity == Severity.NOTE for finding in findings)


def test_all_models_are_there() -> None:
    assert len(MODELS) == 32


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in MODELS if path.stem != "mix_cv183x_int8"], ids=lambda path: path.stem
)
def test_where_nothing_is_found_in_lmem_neither_its_content_nor_the_order_of_the_engines_matters(path: Path) -> None:
    subject = Subject(path)
    for section, cmdbuf in subject.cmdbufs.items():
        orders = (eager(cmdbuf, tiu_first=True), eager(cmdbuf, tiu_first=False))
        found = [subject.outputs(section, order, seed, gmem=False) for seed, order in enumerate(orders, 2) if order]
        assert found == [subject.outputs(section, subject.decoded(section), gmem=False)] * 2


def outputs_by_lmem_and_gmem(stem: str, lmem_seed: int, gmem: tuple[int, int] = (0, 0), gmem_seed: int = 0) -> bytes:
    """The outputs where LMEM, and a range of GMEM behind base register 0, hold random bytes in front of the run."""
    subject = Subject(DATA / f"{stem}.cvimodel")
    (section, *_) = subject.cmdbufs
    base = subject.base(0)
    subject.gmem[base + gmem[0] : base + gmem[1]] = np.random.default_rng(gmem_seed).integers(
        0, 256, gmem[1] - gmem[0], np.uint8
    )
    found = subject.outputs(section, subject.decoded(section), lmem_seed, gmem=False)
    assert found is not None
    return found


def test_the_records_that_nothing_wrote_change_the_outputs() -> None:
    assert len({outputs_by_lmem_and_gmem("mix_cv183x_int8", seed) for seed in range(3)}) == 3
    assert len({outputs_by_lmem_and_gmem("mix_cv181x_int8", seed) for seed in range(3)}) == 1  # no warning, no effect


def test_the_low_halves_of_a_bias_that_nothing_wrote_change_the_outputs() -> None:
    behind_the_mask = (0x9600 + 2 * 49, 0x9700)  # 49 bf16 numbers are the last tensor in front of the end of the load
    assert len({outputs_by_lmem_and_gmem("step_cv181x_bf16", 0, behind_the_mask, seed) for seed in range(3)}) == 3

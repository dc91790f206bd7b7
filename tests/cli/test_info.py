"""`npusim info` says what people ask of a model file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from npusim.cli.main import main
from npusim.loader.cvimodel_types import DType, SectionType, TpuRoutine
from tests.loader.build_cvimodel import ModelData, SectionData, build_cvimodel, program, tensor

FRAME = tensor(
    "x",
    (1, 3, 8, 8),
    DType.UINT8,
    3 << 40,
    pixel_format="BGR_PLANAR",
    aligned=True,
    mean=(1.5, 2.0, 3.0),
    scale=(0.5,) * 3,
)
ONE = program([FRAME, tensor("y", (1, 1, 1, 4), DType.BF16)], [TpuRoutine(("x",), ("y",), "sub")], ["x"], ["y"])


def told(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["info", str(path), *options]) == 0
    return capsys.readouterr().out


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Two programs, of which one's commands are encrypted."""
    sections = [
        SectionData(SectionType.CMDBUF, "sub", b"", encrypted=False),
        SectionData(SectionType.CMDBUF, "secret", bytes(64), encrypted=True),
    ]
    programs = [ONE, replace(ONE, batch=4, routines=(TpuRoutine(("x",), ("y",), "secret"),))]
    (tmp_path / "odd.cvimodel").write_bytes(build_cvimodel(ModelData("mars", programs, sections)))
    return tmp_path / "odd.cvimodel"


def test_info_tells_pixels_types_ion_and_boards(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(odd, capsys)
    assert "x takes BGR_PLANAR pixels, aligned: yes, mean 1.5 2 3, scale 0.5 0.5 0.5" in text
    assert "tensors: 1 UINT8, 1 BF16" in text and "ION 9,728 bytes (0.01 MiB)" in text and "fits: duo256m" in text


def test_info_says_that_a_file_has_several_programs_and_what_is_encrypted(
    odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(odd, capsys)
    assert "2 programs, one for each batch size" in text and "program 1 for batch 4" in text
    assert "encrypted for the chip's secure world, cannot be read here: secret" in text
    assert [section["encrypted"] for section in json.loads(told(odd, capsys, "--json"))["sections"]] == [False, True]

"""`npusim info` says what people ask of a model file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
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
DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
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


def test_run_and_profile_say_which_program_of_several_they_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = program([tensor("x", (1, 1, 1, 4))], [], ["x"], ["x"])
    programs = [one, replace(one, batch=4, tensors=(tensor("x", (4, 1, 1, 4)),))]
    (tmp_path / "two.cvimodel").write_bytes(build_cvimodel(ModelData("cv181x", programs)))
    np.savez(tmp_path / "in.npz", x=np.ones((4, 4), np.float32))
    words = [str(tmp_path / "two.cvimodel"), "--program", "1"]
    assert main(["run", *words, "-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz")]) == 0
    assert "test, program 1 of 2, on cv181x" in capsys.readouterr().out
    assert np.load(tmp_path / "out.npz")["x"].shape == (4, 1, 1, 4)
    assert main(["profile", *words]) == 0
    assert "two.cvimodel, program 1 of 2, on" in capsys.readouterr().out


def test_info_says_that_it_does_not_know_whether_a_file_fits(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(DATA / "mlp_cv183x_int8.cvimodel", capsys)
    assert "whether it fits is not known" in text and "fits: " not in text

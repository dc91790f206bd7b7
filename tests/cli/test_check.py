"""`npusim check`: exit codes, text and JSON for every kind of file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from npusim.chip import CV181X
from npusim.cli import main
from npusim.program.cmdbuf import write_cmdbuf
from npusim.program.dmabuf import write_dmabuf
from tests.check.program import Program

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"


def racy() -> Program:
    program = Program()
    program.load(0)
    program.store(0x100, wait=program.copy(0x100, 0))
    return program


def test_a_model_without_errors_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(DATA / "mlp_cv181x_int8.cvimodel")]) == 0
    assert capsys.readouterr().out.strip().endswith("0 errors, 0 warnings, 0 notes")


def test_warnings_are_shown_and_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(DATA / "step_cv181x_bf16.cvimodel")]) == 0
    out = capsys.readouterr().out
    assert (
        "warning: partly unset in subfunc_0: command 151 (tdma_g2l_matrix_copy)" in out
        and "0 errors, 2 warnings, 0 notes" in out
    )


def test_a_race_in_a_command_buffer_is_1_and_shows_both_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "race.cmdbuf"
    path.write_bytes(write_cmdbuf(racy().cmdbuf))
    assert main(["check", str(path)]) == 1
    out = capsys.readouterr().out
    assert "error: race: command 1 (tiu_copy)" in out
    assert "     1: tiu_copy" in out and "     0: tdma_g2l_tensor_copy" in out


def test_a_dmabuf_is_checked_too_and_json_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "race.dmabuf"
    path.write_bytes(write_dmabuf(racy().cmdbuf))
    assert main(["check", str(path), "--chip", CV181X.name, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {
        s: sum(f["severity"] == s for f in report["findings"]) for s in ("error", "warning", "note")
    }
    assert "race" in {finding["kind"] for finding in report["findings"]}
    assert all(len(finding["commands"]) == len(finding["disassembly"]) for finding in report["findings"])


@pytest.mark.parametrize("content", [None, b"", b"no program"])
def test_a_file_that_cannot_be_read_is_2_and_one_sentence(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert main(["check", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("npusim: ") and captured.err.count("\n") == 1

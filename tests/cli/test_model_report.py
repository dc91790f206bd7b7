"""`npusim model report` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from npusim.cli.main import main

TEXT = str(Path(__file__).parents[1] / "reference_model" / "data" / "held_out.txt")


def test_report_prints_perplexities_and_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "report", "--text", TEXT, "--tokens", "100", "--precision", "bf16,int8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("100 tokens; the float32 model's perplexity is ")
    assert [line.split()[0] for line in lines[2:4]] == ["bf16", "int8"]
    assert [line.split()[0] for line in lines[-4:]] == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_json_holds_the_figures_of_each_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "report", "--text", TEXT, "--tokens", "100", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [result["precision"] for result in report["precisions"]] == ["bf16", "int8", "w8a8"]
    for result in report["precisions"]:
        assert result["num_tokens"] == 100
        assert result["loss_percent"] == pytest.approx(100 * (result["perplexity"] / result["float_perplexity"] - 1))
        assert [layer["layer"] for layer in result["layers"]] == [0, 1, 2, 3]


@pytest.mark.parametrize(("bound", "code"), [("50", 0), ("-50", 1)])
def test_a_loss_above_the_given_bound_is_a_finding(bound: str, code: int) -> None:
    assert (
        main(["model", "report", "--text", TEXT, "--tokens", "30", "--precision", "int8", f"--max-loss={bound}"])
        == code
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "nowhere.txt"], "cannot read nowhere.txt"),
        (["--text", TEXT, "--precision", "fp4"], "choose from bf16, int8, w8a8"),
        (["--text", TEXT, "--tokens", "0"], "use at least 1"),
        (["--text", TEXT, "--tokens", "1000000"], "give --calibration FILE"),
        (["--text", __file__, "--smoothing", "2"], "from 0 to 1"),
        (["--model", "nothing", "--text", TEXT], "no model at nothing"),
    ],
)
def test_trouble_is_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "report", "--tokens", "50", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_text_that_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe\x00")
    assert main(["model", "report", "--text", str(path)]) == 2
    assert "no UTF-8 text" in capsys.readouterr().err

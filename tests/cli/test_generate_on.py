"""`npusim generate --on`: what it prints and what its JSON holds."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from npusim.cli import generate, llm_export
from npusim.cli.commands import COMMANDS
from npusim.cli.generate import GenerateCommand
from npusim.cli.llm_export import ExportCommand
from npusim.cli.main import main
from npusim.cli.parser import parse
from reference_model.loading import load

PROMPT = "And it came to pass in those days, that there went out a decree"
OPTIONS = ["--on", "duo256m", "--precision", "bf16", "--temperature", "0", "--max-tokens", "24"]


@pytest.mark.slow
def test_text_streams_and_json_says_what_a_board_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "r.json"
    assert main(["generate", PROMPT, *OPTIONS, "--budget", "32", "--compare", "--json", str(report)]) == 0
    said, data = capsys.readouterr().out, json.loads(report.read_text())
    assert data["text"] in said and "tokens/s" in said and "kv pages" in said
    assert len(data["tokens"]) == 24 and data["tokens_per_second"] == pytest.approx(
        1000 / data["ms_per_token"]["total"]
    )
    assert data["ms_per_token"].keys() == {"chip", "cpu", "submit", "storage", "total"}
    assert data["dram_bytes_per_token"] > 3.5e6 and 0 <= data["kl"] < 0.5 and 0.5 < data["argmax_agreement"] <= 1
    assert {row["name"] for row in data["memory_map"]} >= {
        "weights",
        "kv pages",
        "page boxes",
        "tables",
        "scratch",
        "io",
    }
    assert data["pruned"] and data["tokens_per_second_without_pruning"] > 0
    assert "attending to 32 (chosen by quest) of up to 48 tokens" in said and "attending to all 48: " in said
    assert len(data["layers"]) == 4 and all(layer["single_db"] > 25 for layer in data["layers"])


@pytest.mark.slow
def test_without_pruning_the_chip_agrees_with_the_float_model(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    assert main(["generate", PROMPT, *OPTIONS, "--policy", "full", "--json", str(report)]) == 0
    data = json.loads(report.read_text())
    assert data["argmax_agreement"] == 1 and data["kl"] < 0.01 and data["budget"] is None


@pytest.mark.slow
def test_faster_dram_gives_the_same_tokens_sooner(tmp_path: Path) -> None:
    reports = []
    for name, what_if in (("a", []), ("b", ["--dram-gbps", "7.46"])):
        path = tmp_path / name
        arguments = [
            "--on",
            "duo256m",
            "--precision",
            "int8",
            "--temperature",
            "0",
            "--max-tokens",
            "4",
            "--policy",
            "full",
            *what_if,
        ]
        assert main(["generate", PROMPT, *arguments, "--json", str(path)]) == 0
        reports.append(json.loads(path.read_text()))
    assert reports[0]["tokens"] == reports[1]["tokens"]
    assert reports[0]["ms_per_token"]["chip"] > reports[1]["ms_per_token"]["chip"]
    assert reports[0]["dram_bytes_per_token"] == reports[1]["dram_bytes_per_token"]


README = (Path(__file__).parents[2] / "README.md").read_text()
LINES = (*README.splitlines(), *ExportCommand.example.splitlines(), *GenerateCommand.example.splitlines())
EXAMPLES = [line.strip().split("   ")[0] for line in LINES if "--board" in line and "--budget" in line]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_with_a_budget_prunes(example: str) -> None:
    words = shlex.split(example)[1:]
    command, given = parse(COMMANDS, words)
    module = generate if isinstance(command, GenerateCommand) else llm_export
    prompt = given[module.PROMPT]  # type: ignore[arg-type]
    length = len(load("builtin").tokenizer.encode(prompt)) + given[module.MAX_TOKENS]  # type: ignore[attr-defined]
    assert given[module.LOWERING].setup(given[module.BOARD], length, 1024).prunes  # type: ignore[arg-type]
    assert length > given[module.LOWERING].budget  # type: ignore[operator]


def test_a_budget_that_does_not_bind_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "And it came", "--board", "duo256m", "--max-tokens", "2"]) == 0
    assert "a budget of 256 prunes nothing: the cache holds 16 tokens" in capsys.readouterr().out

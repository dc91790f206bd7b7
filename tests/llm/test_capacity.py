"""Capacities of boards agree with a whole lowering, and a model that does not fit is refused with the numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from npusim.board import board_named
from npusim.cli.main import main
from npusim.llm.capacity import capacities
from npusim.llm.lowering import lower
from npusim.llm.memory_map import DoesNotFit
from npusim.llm.predict import Predictor
from npusim.llm.setup import Setup
from tests.llm.lowering import lowered, twin


@pytest.mark.slow
def test_the_answer_from_three_layers_is_that_of_all() -> None:
    config = twin("int8").config
    answers = capacities(config, [board_named("duo256m")], precisions=["int8"], contexts=[256])
    (answer,) = (a for a in answers if a.setup.budget == 128)
    low = lower(config, Setup(board_named("duo256m"), "int8", 256, 128), prefill=False)
    step = Predictor(low).decode(256)
    assert answer.step is not None
    assert answer.step.chip_ms == pytest.approx(step.chip_ms, rel=0.01)
    assert answer.step.submit_ms == pytest.approx(step.submit_ms) and answer.step.num_patched == step.num_patched
    assert answer.needed_bytes == low.memory.num_bytes + low.command_bytes


@pytest.mark.slow
def test_a_step_reads_its_weights_once_and_no_faster_than_dram_gives_them() -> None:
    low = lowered("int8", 64)
    step, weights = Predictor(low).decode(64), low.layout.weights.matrix_bytes
    assert weights <= step.dram_bytes <= 1.15 * weights
    assert step.chip_ms >= weights / low.setup.board.peak_gbps / 1e6
    assert step.ms == pytest.approx(step.chip_ms + step.cpu_ms + step.submit_ms)


@pytest.mark.slow
def test_what_exceeds_the_ion_memory_is_refused_with_the_numbers() -> None:
    config = replace(twin("int8").config, vocab_size=1 << 17, num_layers=2, sliding_layers=(False,) * 2)
    with pytest.raises(DoesNotFit, match=r"needs 2\d\.\d MiB of the board's 24\.0 MiB"):
        lower(config, Setup(board_named("duo"), "int8", 64), prefill=False)


def test_the_command_writes_a_table_json_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    files = tmp_path / "c.json", tmp_path / "c.svg"
    options = [
        "--board",
        "duo",
        "--precision",
        "int8",
        "--context",
        "64",
        "--json",
        str(files[0]),
        "--plot",
        str(files[1]),
    ]
    assert main(["capacity", *options]) == 0
    rows = json.loads(files[0].read_text())["rows"]
    assert [row["budget"] for row in rows] == [None] and rows[0]["fits"] and rows[0]["binds"] == "DRAM"
    assert "tokens/s" in capsys.readouterr().out and files[1].read_bytes()

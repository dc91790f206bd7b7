"""Benchmark files as tasks, and the tasks that take a model's own words or a text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kv.errors import KVError
from kv.tasks import task_named
from kv.tasks.files import infinitebench_file, longbench_file
from kv.tasks.passkey import Passkey
from kv.tasks.record_recall import RecordRecall
from kv.tasks.text_perplexity import Perplexity


def count_tokens(text: str) -> int:
    return len(text.split())


def longbench(directory: Path, *rows: object, name: str = "trec") -> Path:
    path = directory / f"{name}.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


ROW = {
    "context": " ".join(map(str, range(200))),
    "input": "what?",
    "answers": ["City"],
    "all_classes": ["City", "Food"],
}


def test_a_longbench_file_is_scored_by_the_metric_of_its_name_with_its_classes(tmp_path: Path) -> None:
    task = longbench_file(longbench(tmp_path, ROW))
    sample = task.fitted(0, 1000, count_tokens)
    assert not task.chat and sample.max_new_tokens == 64
    assert [task.score(said, sample) for said in ("City", "City Food", "Food", "City\nFood")] == [1, 0.5, 0, 1]


@given(room=st.integers(10, 210))
def test_a_long_context_loses_its_middle_and_keeps_its_question(
    room: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    task = longbench_file(longbench(tmp_path_factory.mktemp("files"), ROW))
    sample = task.fitted(0, room, count_tokens)
    assert count_tokens(sample.context + sample.question) <= room
    assert sample.context[:1] == "0" and sample.context[-3:] == "199" and sample.question == "\n\nwhat?\n"


def test_a_damaged_line_is_named_and_the_others_stay(tmp_path: Path) -> None:
    task = longbench_file(longbench(tmp_path, ROW, '{"context": "cut', ROW))
    assert len(task.samples) == 2 and task.damaged[0][0] == 2


def test_a_line_without_a_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(KVError, match=r"trec\.jsonl, line 2 has no field 'answers'"):
        longbench_file(longbench(tmp_path, ROW, {"context": "", "input": ""}))


def test_a_file_must_be_named_after_its_task(tmp_path: Path) -> None:
    with pytest.raises(KVError, match="no LongBench task 'mine'"):
        longbench_file(longbench(tmp_path, ROW, name="mine"))


@pytest.mark.parametrize(
    ("name", "answer", "said", "score"),
    [
        ("passkey", "71432", "The key is 71432.", 1),
        ("math_calc", [1, 2, 3, 4], "1, 2, 9", 0.5),
        ("math_find", 7, "it is 7", 1),
        ("kv_retrieval", "ab-cd", "'ab-cd'", 1),
    ],
)
def test_an_infinitebench_file_is_scored_by_the_scorer_of_its_name(
    name: str, answer: object, said: str, score: float, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.jsonl"
    path.write_text(json.dumps({"context": "text", "input": "what?", "answer": answer, "options": []}))
    task = infinitebench_file(path)
    assert task.score(said, task.samples[0]) == score


def test_what_cannot_be_an_answer_of_its_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "math_calc.jsonl"
    path.write_text(json.dumps({"context": "text", "input": "what?", "answer": ["many"]}))
    task = infinitebench_file(path)
    with pytest.raises(KVError, match="'many', where whole numbers belong"):
        task.score("1", task.samples[0])


@given(seed=st.integers(0, 99), room=st.integers(60, 400))
def test_a_record_that_is_asked_for_stands_once_in_the_context(seed: int, room: int) -> None:
    task = RecordRecall()
    sample = task.sample(np.random.default_rng(seed), room, count_tokens)
    key = sample.question.removeprefix(" [ ")
    assert sample.context.count(f"[ {key} {sample.answers[0]} ]") == 1 == sample.context.count(f"[ {key} ")
    assert room - 5 <= count_tokens(sample.context + sample.question) <= room
    assert task.score(f" {sample.answers[0]} ]", sample) == 1 and task.score(" ]", sample) == 0


@pytest.mark.parametrize(
    ("said", "decided"),
    [("", False), (" 123", False), (" 12345", False), (" 12345.", True), (" 123456", True), (" no 1\n", True)],
)
def test_a_passkey_is_decided_when_its_number_has_ended(said: str, decided: bool) -> None:
    task = Passkey()
    sample = task.sample(np.random.default_rng(0), 400, count_tokens)
    assert task.is_decided(said, sample) == decided


def test_a_ruler_task_is_decided_when_every_reference_occurs() -> None:
    task = task_named("niah_multivalue")
    sample = task.sample(np.random.default_rng(0), 400, count_tokens)
    assert not task.is_decided(" ".join(sample.answers[:-1]), sample)
    assert task.is_decided(" ".join(sample.answers), sample)


@pytest.mark.parametrize(
    ("said", "decided"), [("", False), (" quil", False), (" quilt", False), (" quilt ]", True), (" raft", True)]
)
def test_a_recall_is_decided_by_its_first_word(said: str, decided: bool) -> None:
    sample = RecordRecall(words=("quilt",) * 8, records=1).sample(np.random.default_rng(0), 60, count_tokens)
    assert sample.answers == ("quilt",)
    assert RecordRecall().is_decided(said, sample) == decided


@given(seed=st.integers(0, 99), room=st.integers(20, 90))
def test_perplexity_scores_the_end_of_a_passage(seed: int, room: int) -> None:
    text = tuple(f"w{i} w{i + 1}." for i in range(0, 100, 2))
    sample = Perplexity(text, scored=8).sample(np.random.default_rng(seed), room, count_tokens)
    assert sample.max_new_tokens == 0 and count_tokens(sample.question) == 8
    assert sample.context + sample.question in " ".join(text)
    assert count_tokens(sample.context + sample.question) == room

"""Rows of benchmark files as samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kv.errors import KVError
from kv.tasks import infinitebench
from kv.tasks.files import prompts_file
from kv.tasks.prompts import QUESTION_CHARS, fill, infinitebench_samples, longbench_samples, read_templates


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_template_is_cut_after_the_context_and_other_braces_stay() -> None:
    context, question = fill(
        "Read {x}: {context}\nQ: {input} {unknown}", {"context": "long {input} {", "input": "why {context}?", "x": 1}
    )
    assert (context, question) == ("Read 1: long {input} {", "\nQ: why {context}? {unknown}")
    with pytest.raises(KVError, match="no slot"):
        fill("nothing", {"context": ""})


def test_longbench_rows_become_samples(tmp_path: Path) -> None:
    path = write(
        tmp_path / "qasper.jsonl",
        {"context": "C", "input": "I", "answers": ["a", "b"]},
        {"context": "D", "input": "J", "answers": ["c"]},
    )
    first, second = longbench_samples(path, "qasper", "Article: {context}\nQuestion: {input}")
    assert (first.context, first.question, first.answers, first.max_new_tokens) == (
        "Article: C",
        "\nQuestion: I",
        ("a", "b"),
        128,
    )
    assert second.answers == ("c",) and len(longbench_samples(path, "qasper", max_samples=1)) == 1


def test_infinitebench_choices_get_letters_that_its_scorer_accepts(tmp_path: Path) -> None:
    row = {"id": 0, "context": "C", "input": "Who?", "answer": ["Ann"], "options": ["Bob", "Ann", "Cy", "Di"]}
    (sample,) = infinitebench_samples(write(tmp_path / "choice.jsonl", row), "longbook_choice_eng")
    assert sample.answers == ("Ann", "B") and "B. Ann" in sample.question
    assert infinitebench.score("longbook_choice_eng", "B", list(sample.answers)) == 1
    (number,) = infinitebench_samples(write(tmp_path / "run.jsonl", row | {"answer": 7}), "code_run")
    assert number.answers == ("7",)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"context": "C", "input": "I"}, r"x\.jsonl, line 1 has no field 'answer'"),
        ({"context": "C", "input": "I", "answer": []}, "line 1 has no answer"),
        (
            {"context": "C", "input": "I", "answer": "z", "options": ["a", "b", "c", "d"]},
            "'z' must be one of four options",
        ),
    ],
)
def test_rows_that_cannot_be_asked_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(KVError, match=message):
        infinitebench_samples(write(tmp_path / "x.jsonl", row), "code_debug")


def test_templates_are_read_from_a_file_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", {"qasper": "{context} {input}"})
    assert read_templates(path) == {"qasper": "{context} {input}"}
    for content, message in (("[]", "holds no templates"), ('{"a": "b"}', "holds no templates"), ("{", "is not JSON")):
        path.write_text(content)
        with pytest.raises(KVError, match=message):
            read_templates(path)
    with pytest.raises(KVError, match="cannot be read"):
        read_templates(tmp_path / "absent")


PROMPT = "Some passage about rivers. " * 20 + "Question: where does the longest river of all end? Answer:"


def test_whole_prompts_of_several_tasks_are_asked_and_scored_by_each_ones_metric(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.jsonl",
        {"task": "2wikimqa", "prompt": PROMPT, "gold": "the North Sea"},
        {"task": "trec", "prompt": PROMPT, "gold": {"answers": ["Food"], "all_classes": ["Food", "Date"]}},
    )
    task = prompts_file(path)
    first, second = task.samples
    assert first.context + first.question == PROMPT and first.question.startswith(" ")
    assert QUESTION_CHARS <= len(first.question) < QUESTION_CHARS + 20
    assert (first.max_new_tokens, second.max_new_tokens) == (32, 64)
    assert task.score("North Sea", first) == 1 and task.score("Date", second) == 0 < task.score("Food\nDate", second)
    assert not task.chat and task.name == "prompts:mine"


@pytest.mark.parametrize(
    "row, message",
    [
        ({"task": "chess", "prompt": PROMPT, "gold": "x"}, r"mine.jsonl, line 1: there is no LongBench task 'chess'"),
        ({"task": "lcc", "prompt": PROMPT}, "line 1 has no field 'gold'"),
        ({"task": "lcc", "prompt": 7, "gold": "x"}, "line 1: prompt is a int"),
        ({"task": "lcc", "prompt": "short", "gold": "x"}, "line 1: the prompt has 5 characters: give more than 120"),
        ({"task": "lcc", "prompt": PROMPT, "gold": []}, "line 1: gold has no answers"),
        ({"task": "lcc", "prompt": PROMPT, "gold": [3]}, "line 1: an answer or a class in gold is no text"),
        (
            {"task": "lcc", "prompt": PROMPT, "gold": {"answers": "x", "all_classes": "y"}},
            "line 1: gold has no answers",
        ),
    ],
)
def test_a_whole_prompt_that_is_none_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(KVError, match=message):
        prompts_file(write(tmp_path / "mine.jsonl", row))

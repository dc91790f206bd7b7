"""Makes samples of a benchmark's file: a row's fields are put into a template, and the prompt is divided after the
context, so that the question can be fed separately."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kv.errors import KVError
from kv.tasks.base import Sample
from kv.tasks.infinitebench import infinitebench_task
from kv.tasks.jsonl import JsonLines, read_jsonl
from kv.tasks.longbench import longbench_task

PLAIN_TEMPLATE = "{context}\n\n{input}\n"
OPTIONS_TEMPLATE = "{context}\n\n{input}\nA. {OPTION_A}\nB. {OPTION_B}\nC. {OPTION_C}\nD. {OPTION_D}\nAnswer:"
CHOICE_TASKS = ("longbook_choice_eng", "code_debug")


QUESTION_CHARS = 120
"""The end of a whole prompt is its question: about as many characters, from a space on (some 24 tokens)."""


def whole_prompt_samples(path: Path, max_samples: int | None = None) -> list[Sample]:
    """The samples of a file with whole prompts; see files.prompts_file."""
    lines = read_jsonl(path, max_samples)
    lines.require("task", "prompt", "gold", task=str, prompt=str, gold=(str, list, dict))
    return [_whole_prompt(f"{path.name}, line {number}", row) for number, row in lines.rows]


def _whole_prompt(where: str, row: Mapping[str, Any]) -> Sample:
    gold = row["gold"] if isinstance(row["gold"], dict) else {"answers": row["gold"]}
    answers, classes = gold.get("answers"), gold.get("all_classes") or []
    answers = [answers] if isinstance(answers, str) else answers
    if not answers or not all(isinstance(each, list) for each in (answers, classes)):
        raise KVError(f"{where}: gold has no answers: give a text, a list of them, or an object with answers")
    if not all(isinstance(text, str) for text in (*answers, *classes)):
        raise KVError(f"{where}: an answer or a class in gold is no text: give texts")
    try:
        task = longbench_task(row["task"])
    except KVError as error:
        raise KVError(f"{where}: {error}") from None
    prompt = row["prompt"]
    cut = prompt.rfind(" ", 0, max(0, len(prompt) - QUESTION_CHARS))
    if cut < 0:
        raise KVError(f"{where}: the prompt has {len(prompt)} characters: give more than {QUESTION_CHARS}")
    return Sample(
        prompt[:cut], prompt[cut:], tuple(answers), task.max_new_tokens, classes=tuple(classes), task=task.name
    )


def read_templates(path: Path) -> dict[str, str]:
    """Templates by task, from a file such as LongBench's config/dataset2prompt.json: a JSON object of texts with fields
    in braces. Raises KVError if it cannot be read or has another form."""
    try:
        templates = json.loads(path.read_bytes())
    except OSError as error:
        raise KVError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise KVError(f"{path} is not JSON: {error}") from error
    if not isinstance(templates, dict) or not all(
        isinstance(text, str) and "{context}" in text for text in templates.values()
    ):
        raise KVError(f"{path} holds no templates: it must be an object of texts that contain {{context}}")
    return templates


def fill(template: str, fields: Mapping[str, Any]) -> tuple[str, str]:
    """(the prompt up to the end of the context, the rest). A name in braces that is not in `fields` is not changed.
    Raises KVError for a template without {context}."""
    before, found, after = template.partition("{context}")
    if not found:
        raise KVError(f"the template {template[:40]!r} has no slot {{context}}: add one for the long text")

    def filled(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda slot: str(fields.get(slot.group(1), slot.group())), text)

    return filled(before) + str(fields["context"]), filled(after)


def longbench_samples(
    path: Path, task_name: str, template: str = PLAIN_TEMPLATE, max_samples: int | None = None
) -> list[Sample]:
    """The samples of a LongBench file, whose lines have `context`, `input` and `answers`. Raises KVError for another
    file."""
    task = longbench_task(task_name)
    lines = read_jsonl(path, max_samples)
    lines.require("context", "input", "answers", all_classes=(list, type(None)))
    return [
        Sample(
            *fill(template, row),
            _texts(lines, number, row["answers"]),
            task.max_new_tokens,
            classes=tuple(map(str, row.get("all_classes") or ())),
        )
        for number, row in lines.rows
    ]


def infinitebench_samples(
    path: Path, task_name: str, template: str | None = None, max_samples: int | None = None
) -> list[Sample]:
    """The samples of an InfiniteBench file, whose lines have `context`, `input`, `answer` and, for multiple choice,
    `options`. Raises KVError for another file.

    The answers of a choice are the option's text and its letter, as the scorers need them.
    """
    task = infinitebench_task(task_name)
    lines = read_jsonl(path, max_samples)
    lines.require("context", "input", "answer")
    choice = task_name in CHOICE_TASKS
    samples = []
    for number, row in lines.rows:
        fields = {**row, "question": row["input"]}
        answers = _texts(lines, number, row["answer"])
        if choice:
            options = row.get("options")
            if not isinstance(options, list) or len(options) != 4 or answers[0] not in options:
                raise KVError(
                    f"{path.name}, line {number}: {answers[0][:40]!r} must be one of four options, which are "
                    f"{str(options)[:80]}"
                )
            fields |= {f"OPTION_{letter}": option for letter, option in zip("ABCD", options, strict=True)}
            answers = (answers[0], "ABCD"[options.index(answers[0])])
        context, question = fill(template or (OPTIONS_TEMPLATE if choice else PLAIN_TEMPLATE), fields)
        samples.append(Sample(context, question, answers, task.max_new_tokens))
    return samples


def _texts(lines: JsonLines, number: int, answer: Any) -> tuple[str, ...]:
    texts = tuple(str(part) for part in (answer if isinstance(answer, list) else [answer]))
    if not texts:
        raise KVError(f"{lines.path.name}, line {number} has no answer: give at least one")
    return texts

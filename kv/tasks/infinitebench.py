"""InfiniteBench (OpenBMB/InfiniteBench): its files and its twelve scorers.

strict_original=True scores exactly as the original does, which gives the published numbers. Without it, obvious
mistakes of the original are corrected: labels of another type than expected, negative and decimal numbers, names of
several words, and a prediction that only happens to begin with the letter A, B, C or D."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kv.errors import KVError
from kv.tasks.jsonl import read_jsonl
from kv.tasks.text import normalise, normalise_chinese, rouge_lsum, token_f1

PUNCTUATION = "\n:\"'.,?!{}"


def _first(label: Any) -> Any:
    return label[0] if isinstance(label, list) and label else label


def _spaced(text: str, characters: Sequence[str]) -> str:
    for character in characters:
        text = text.replace(character, " ")
    return text


def _after(text: str, prefixes: Sequence[str]) -> str | None:
    """The text from the second character after the first of `prefixes` that occurs in `text`; None if none occurs."""
    for prefix in prefixes:
        if (place := text.find(prefix)) != -1:
            return text[place + len(prefix) + 1 :]
    return None


def first_digits(prediction: str, label: Any, strict: bool) -> float:
    """passkey, number_string: whether the first number is the label. Strict: a label that is not text never matches."""
    digits = re.search("[0-9]+", prediction)
    found = digits.group() if digits else ""
    return float((_first(label) if strict else str(_first(label))) == found)


def kv_retrieval(prediction: str, label: Any, strict: bool) -> float:
    """Whether the label is one of the words. Strict: a label in a list never matches."""
    return float((label if strict else _first(label)) in _spaced(prediction, PUNCTUATION).split())


def code_run(prediction: str, label: Any, strict: bool) -> float:
    """Whether the last word is the label. Strict: a label that is text never matches."""
    words = _spaced(prediction.strip(), "\n.`'\":").split()
    try:
        found = int(words[-1]) if words else None
    except ValueError:
        return 0.0
    label = _first(label)
    return float(found is not None and (label == found or (not strict and str(label).strip() == str(found))))


def code_debug(prediction: str, label: Any, strict: bool) -> float:
    """Label: [function, letter]. Whether the prediction begins with "letter." or "letter:", or one of both follows
    words such as "answer is:"."""
    function, letter = label
    if prediction.strip()[:2] in (f"{letter}.", f"{letter}:"):
        return 1.0
    text = re.sub(" +", " ", _spaced(prediction.strip(), ("\n", "`", "'", '"', "-", "*", "Option", "option")))
    answer = _after(text, ("answer is:", "is:", "answer:", "correct option is:"))
    return float(bool(answer) and answer.startswith((letter, function)))  # type: ignore[union-attr]


def math_find(prediction: str, label: Any, strict: bool) -> float:
    """Whether the first number is the label. Strict: signs are ignored, and a decimal number raises ValueError if the
    label is a whole number."""
    label = _first(label)
    number = re.search(r"\d+\.\d+|\d+" if strict else r"-?\d+\.\d+|-?\d+", prediction)
    if number is None:
        return 0.0
    if strict and isinstance(label, int):
        return float(int(number.group()) == label)
    return float(float(number.group()) == float(label))


def math_calc(prediction: str, label: Any, strict: bool, skip: int = 0) -> float:
    """The share of the sequence that is right from its start on. Strict: signs are ignored."""
    wanted = label[0] if isinstance(label[0], list) else label
    numbers = [int(number) for number in re.findall("[0-9]+" if strict else "-?[0-9]+", prediction)][skip:]
    right = 0
    while right < min(len(wanted), len(numbers)) and wanted[right] == numbers[right]:
        right += 1
    return right / len(wanted)


def dialogue(prediction: str, label: Any, strict: bool) -> float:
    """Whether the label is among the words, in upper case. Strict: a name of several words never matches."""
    words = _spaced(prediction.strip(), PUNCTUATION).upper().split()
    if strict:
        return float(_first(label) in words)
    return float(f" {' '.join(_spaced(str(_first(label)), PUNCTUATION).upper().split())} " in f" {' '.join(words)} ")


def choice(prediction: str, label: Any, strict: bool) -> float:
    """Label: [text, letter]. Whether the prediction chooses either. Strict: a prediction that begins with A, B, C or D,
    such as "A man", counts as that letter."""
    text = prediction.strip()
    if not text:
        return 0.0
    if text[0] in "ABCD" and (strict or not re.match("A [a-z]|[A-D][A-Za-z0-9]", text)):
        return float(text[0] in label)
    if text in label:
        return 1.0
    text = re.sub(" +", " ", _spaced(text, "\n\"'.,?!{}"))
    answer = _after(text, ("answer is:", "answer:", "answer is", "option is"))
    if answer is not None:
        return float(bool(answer) and answer.startswith(tuple(label)))
    letters = (word for word in text.split() if (word in "ABCD" if strict else word in ("A", "B", "C", "D")))
    return float(next(letters, None) in label)


def qa(prediction: str, label: Any, strict: bool) -> float:
    """The best F1 of normalised words over the answers."""
    return max(token_f1(normalise(prediction).split(), normalise(truth).split()) for truth in label)


def qa_chinese(prediction: str, label: Any, strict: bool) -> float:
    """The best F1 of normalised characters over the answers."""
    return max(token_f1(normalise_chinese(prediction), normalise_chinese(truth)) for truth in label)


def summary(prediction: str, label: Any, strict: bool) -> float:
    """ROUGE-Lsum."""
    return rouge_lsum(prediction, _first(label))


@dataclass(frozen=True)
class InfiniteBenchTask:
    name: str
    scorer: Callable[[str, Any, bool], float]
    max_new_tokens: int


INFINITEBENCH_TASKS = (
    InfiniteBenchTask("passkey", first_digits, 6),
    InfiniteBenchTask("number_string", first_digits, 12),
    InfiniteBenchTask("kv_retrieval", kv_retrieval, 50),
    InfiniteBenchTask("longbook_sum_eng", summary, 1200),
    InfiniteBenchTask("longbook_qa_eng", qa, 40),
    InfiniteBenchTask("longbook_qa_chn", qa_chinese, 40),
    InfiniteBenchTask("longbook_choice_eng", choice, 40),
    InfiniteBenchTask("longdialogue_qa_eng", dialogue, 40),
    InfiniteBenchTask("code_debug", code_debug, 5),
    InfiniteBenchTask("code_run", code_run, 5),
    InfiniteBenchTask("math_calc", math_calc, 30000),
    InfiniteBenchTask("math_find", math_find, 3),
)


def infinitebench_task(name: str) -> InfiniteBenchTask:
    for task in INFINITEBENCH_TASKS:
        if task.name == name:
            return task
    raise KVError(
        f"there is no InfiniteBench task {name!r}: choose one of {', '.join(task.name for task in INFINITEBENCH_TASKS)}"
    )


def score(
    name: str, prediction: str, label: Any, strict_original: bool = False, skip_first_number: bool = False
) -> float:
    """The score of one prediction, from 0 to 1. skip_first_number: math_calc ignores the first number, as the original
    does for GPT-4. Raises KVError for an unknown task."""
    task = infinitebench_task(name)
    if task.scorer is math_calc:
        return math_calc(prediction, label, strict_original, int(skip_first_number))
    return task.scorer(prediction, label, strict_original)


@dataclass(frozen=True)
class FileScore:
    percent: float
    num_samples: int
    damaged: tuple[tuple[int, str], ...]


def score_predictions(
    path: Path, name: str, strict_original: bool = False, skip_first_number: bool = False
) -> FileScore:
    """The mean score of a file whose lines have `prediction` or `pred`, and `ground_truth` or `label`. Raises KVError,
    with the line, for one that cannot be scored."""
    lines = read_jsonl(path)
    total = 0.0
    for number, row in lines.rows:
        prediction = row.get("prediction", row.get("pred"))
        label = row.get("ground_truth", row.get("label"))
        if not isinstance(prediction, str) or label is None:
            raise KVError(
                f"{path.name}, line {number} lacks a prediction or a label: fields are {', '.join(sorted(row))}"
            )
        try:
            total += score(name, prediction, label, strict_original, skip_first_number)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise KVError(f"{path.name}, line {number} cannot be scored as {name}: {error}") from error
    return FileScore(100 * total / len(lines.rows), len(lines.rows), tuple(lines.damaged))

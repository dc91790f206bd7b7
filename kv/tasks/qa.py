"""RULER's question answering, with files of SQuAD or HotpotQA: the paragraphs that answer a question are among others
that do not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kv.errors import KVError
from kv.tasks.base import CountTokens, Sample, Task, largest_fit, string_match_part

MAX_FILE_BYTES = 256 << 20


@dataclass(frozen=True)
class Question:
    """A question, its answers, and the places of its own paragraphs in the file's list of paragraphs."""

    text: str
    answers: tuple[str, ...]
    own: tuple[int, ...]


@dataclass(frozen=True)
class QuestionAnswering(Task):
    """One question, its own paragraphs, and as many others as fit, in random order."""

    name: str  # type: ignore[misc]
    questions: tuple[Question, ...]
    paragraphs: tuple[str, ...]

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        question = self.questions[int(rng.integers(len(self.questions)))]
        others = rng.permutation(len(self.paragraphs))
        others = others[~np.isin(others, question.own)]
        places = rng.random(len(others) + len(question.own))
        asked = f"\nAnswer the question based on the given documents. Give only the answer.\nQuestion: {question.text}"
        prefix = " Answer:"

        def build(num_others: int) -> str:
            chosen = [*question.own, *others[:num_others].tolist()]
            order = np.argsort(places[: len(chosen)])
            return "The following are given documents.\n\n" + "\n\n".join(
                f"Document {number}:\n{self.paragraphs[chosen[i]]}" for number, i in enumerate(order.tolist(), 1)
            )

        count = largest_fit(lambda n: build(n) + asked + prefix, num_tokens, count_tokens, most=len(others))
        return Sample(build(count), asked, question.answers, 32, answer_prefix=prefix)

    def score(self, prediction: str, sample: Sample) -> float:
        return string_match_part(prediction, sample.answers)


def read_squad(path: Path) -> QuestionAnswering:
    """RULER's qa_1, from a SQuAD file (version 1 or 2). Questions without an answer are left out. Raises KVError for
    another file."""
    paragraphs: list[str] = []
    questions: list[Question] = []
    try:
        for article in _load(path)["data"]:
            for paragraph in article["paragraphs"]:
                paragraphs.append(_text(paragraph["context"]))
                for entry in paragraph["qas"]:
                    answers = tuple(dict.fromkeys(_text(answer["text"]) for answer in entry["answers"]))
                    if answers and not entry.get("is_impossible", False):
                        questions.append(Question(_text(entry["question"]), answers, (len(paragraphs) - 1,)))
    except (KeyError, TypeError, AttributeError) as error:
        raise KVError(
            f"{path} is not a SQuAD file: {type(error).__name__} {error} in paragraph {len(paragraphs)}"
        ) from error
    return _task("qa_1", path, questions, paragraphs)


def read_hotpotqa(path: Path) -> QuestionAnswering:
    """RULER's qa_2, from a HotpotQA file with distractors. Raises KVError for another file."""
    place: dict[str, int] = {}
    questions: list[Question] = []
    try:
        for entry in _load(path):
            texts = [f"{title}\n{''.join(sentences)}" for title, sentences in entry["context"]]
            own = tuple(dict.fromkeys(place.setdefault(text, len(place)) for text in texts))
            questions.append(Question(_text(entry["question"]), (_text(entry["answer"]),), own))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KVError(
            f"{path} is not a HotpotQA file: {type(error).__name__} {error} in question {len(questions) + 1}"
        ) from error
    return _task("qa_2", path, questions, list(place))


def _task(name: str, path: Path, questions: list[Question], paragraphs: list[str]) -> QuestionAnswering:
    if not questions:
        raise KVError(f"{path} has no question with an answer: give a file with at least one")
    return QuestionAnswering(name, tuple(questions), tuple(paragraphs))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]} is not a text")
    return value


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise KVError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: give a SQuAD or HotpotQA file")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise KVError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise KVError(f"{path} is not JSON: {error}") from error

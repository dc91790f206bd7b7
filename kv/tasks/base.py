"""The base class of tasks: a task makes samples of a given length and scores a model's answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.errors import KVError

CountTokens = Callable[[str], int]
"""Counts the tokens of a text with the model's tokenizer."""


@dataclass(frozen=True)
class Sample:
    """One question about a long context.

    context         text to prefill
    question        text to feed token by token after the context, so that a policy acts on it (as in Quest's
                    evaluation)
    answers         right answers
    max_new_tokens  the most tokens that the answer may have; 0 if the model has to predict the question itself
    depth           place of the needle, from 0 (start) to 1 (end); None if there is none
    answer_prefix   the start of the answer (RULER's term). It follows the question, or the token that starts a chat
                    model's answer
    classes         the names that are possible answers, if a file lists them
    task            whose answer this is, if a file has those of several tasks
    """

    context: str
    question: str
    answers: tuple[str, ...]
    max_new_tokens: int
    depth: float | None = None
    answer_prefix: str = ""
    classes: tuple[str, ...] = ()
    task: str = ""


@dataclass(frozen=True)
class Task:
    """A generator of samples. Equal seeds and lengths give equal samples."""

    name: ClassVar[str]
    chat: ClassVar[bool] = True
    """Whether a chat model gets the question in its chat format."""

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        """A sample whose context and question have as many tokens as possible, but at most `num_tokens`. Raises KVError
        if the shortest sample has more."""
        raise NotImplementedError

    def score(self, prediction: str, sample: Sample) -> float:
        """A score from 0 to 1: by default the share of the answers that occur in the prediction, in upper or lower case
        (RULER's string_match_all)."""
        return string_match_all(prediction, sample.answers)

    def is_decided(self, prediction: str, sample: Sample) -> bool:
        """Whether the score can no longer change, whatever follows the prediction. Then no more tokens are
        generated."""
        return False


def string_match_all(prediction: str, answers: tuple[str, ...]) -> float:
    """The share of the answers that occur in the prediction, in upper or lower case, after control characters are
    removed."""
    said = re.sub(r"[\x00-\x1f]", "\n", prediction).strip().lower()
    return sum(answer.lower() in said for answer in answers) / len(answers)


def string_match_part(prediction: str, answers: tuple[str, ...]) -> float:
    """1 if any of the answers occurs in the prediction, else 0 (RULER's rule for question answering)."""
    return float(string_match_all(prediction, answers) > 0)


def largest_fit(
    build: Callable[[int], str], num_tokens: int, count_tokens: CountTokens, least: int = 0, most: int | None = None
) -> int:
    """The largest n from `least` to `most` for which build(n) has at most `num_tokens` tokens. build(n) must get longer
    with n. Raises KVError if build(least) has more."""

    def fits(n: int) -> bool:
        return (most is None or n <= most) and count_tokens(build(n)) <= num_tokens

    if not fits(least):
        needed = count_tokens(build(least))
        raise KVError(f"{num_tokens} tokens are too few: the shortest sample has {needed}, so give a longer context")
    step = 1
    while fits(least + step):
        step *= 2
    low, high = least + step // 2, least + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def insert_at_depth(lines: list[str], needle: str, depth: float) -> list[str]:
    """The lines with the needle inserted after the share `depth`, 0 to 1, of them."""
    place = round(depth * len(lines))
    return [*lines[:place], needle, *lines[place:]]

"""What a task is: it makes samples of a wanted length and scores what a model answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.errors import KVError

CountTokens = Callable[[str], int]
"""Tokens of a text, as the model's tokenizer counts them."""


@dataclass(frozen=True)
class Sample:
    """One question about a long context.

    context         to be prefilled
    question        to be fed token by token after it, so that a policy acts on it as Quest's evaluation has it
    answers         references
    max_new_tokens  that the answer may take; 0 where the question itself is what the model is to predict
    depth           place of the needle from 0 (start) to 1 (end), where there is one
    answer_prefix   how the answer begins: follows the question, or the mark by which a chat model takes its turn
                    (RULER's term)
    classes         names of which the answer is one, where a file lists them
    """

    context: str
    question: str
    answers: tuple[str, ...]
    max_new_tokens: int
    depth: float | None = None
    answer_prefix: str = ""
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A generator of samples. Equal seeds and lengths give equal samples."""

    name: ClassVar[str]
    chat: ClassVar[bool] = True
    """Whether a chat model is asked in its own format."""

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        """A sample whose context and question have at most num_tokens tokens, and as many as fit. KVError if even the
        shortest does not."""
        raise NotImplementedError

    def score(self, prediction: str, sample: Sample) -> float:
        """From 0 to 1: the share of the references that occur in the prediction, whatever their case (RULER's
        string_match_all)."""
        return string_match_all(prediction, sample.answers)

    def is_decided(self, prediction: str, sample: Sample) -> bool:
        """Whether nothing that could follow the prediction changes its score: no more tokens are asked for then."""
        return False


def string_match_all(prediction: str, answers: tuple[str, ...]) -> float:
    """Share of the references in the prediction, upper and lower case alike, control characters removed first."""
    said = re.sub(r"[\x00-\x1f]", "\n", prediction).strip().lower()
    return sum(answer.lower() in said for answer in answers) / len(answers)


def string_match_part(prediction: str, answers: tuple[str, ...]) -> float:
    """1 if any of the references occurs, else 0 (RULER's rule for question answering)."""
    return float(string_match_all(prediction, answers) > 0)


def largest_fit(
    build: Callable[[int], str], num_tokens: int, count_tokens: CountTokens, least: int = 0, most: int | None = None
) -> int:
    """The largest n from `least` (to `most`) for which build(n), longer with every n, has at most num_tokens tokens."""

    def fits(n: int) -> bool:
        return (most is None or n <= most) and count_tokens(build(n)) <= num_tokens

    if not fits(least):
        needed = count_tokens(build(least))
        raise KVError(f"{num_tokens} tokens are too few: the shortest sample has {needed}, ask for a longer context")
    step = 1
    while fits(least + step):
        step *= 2
    low, high = least + step // 2, least + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def insert_at_depth(lines: list[str], needle: str, depth: float) -> list[str]:
    """The lines with the needle after the first `depth` of them."""
    place = round(depth * len(lines))
    return [*lines[:place], needle, *lines[place:]]

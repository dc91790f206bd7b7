"""Passkey retrieval: five digits in a long text without content (Landmark Attention, InfiniteBench, Quest)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.tasks.base import CountTokens, Sample, Task, insert_at_depth, largest_fit

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
INTRODUCTION = (
    "Important information is hidden in the text below. Find it and remember it. You will be asked about it.\n"
)


@dataclass(frozen=True)
class Passkey(Task):
    """As many lines of noise as fit, with "The pass key is ..." between two of them. The key has 5 digits.

    depth   place of the key, from 0 to 1; None: a random place
    """

    depth: float | None = None
    name: ClassVar[str] = "passkey"
    chat: ClassVar[bool] = False

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        key = str(rng.integers(10_000, 100_000))
        depth = float(rng.random()) if self.depth is None else self.depth
        needle = f"The pass key is {key}. Remember it. {key} is the pass key."
        question, prefix = "\nWhat is the pass key?", " The pass key is"

        def build(size: int) -> str:
            return INTRODUCTION + self.hidden(needle, size, depth)

        count = largest_fit(lambda n: build(n) + question + prefix, num_tokens, count_tokens)
        return Sample(build(count), question, (key,), 10, depth=depth, answer_prefix=prefix)

    def hidden(self, needle: str, size: int, depth: float) -> str:
        """The needle in noise. `size` is its length, here in lines."""
        return "\n".join(insert_at_depth([NOISE] * size, needle, depth))

    def score(self, prediction: str, sample: Sample) -> float:
        """1 if the first number in the prediction is the key."""
        number = re.search(r"\d+", prediction)
        return float(number is not None and number.group() in sample.answers)

    def is_decided(self, prediction: str, sample: Sample) -> bool:
        """Whether the first number has ended, or is longer than the key."""
        number = re.search(r"\d+", prediction)
        return number is not None and (number.end() < len(prediction) or len(number.group()) > len(sample.answers[0]))


@dataclass(frozen=True)
class PasskeySpaces(Passkey):
    """Passkey with the noise of the original (Landmark Attention, Quest): sentences joined by spaces in one line before
    the key and one after it, cut where their characters end."""

    name: ClassVar[str] = "passkey_spaces"

    def hidden(self, needle: str, size: int, depth: float) -> str:
        """The needle in `size` characters of noise."""
        noise = " ".join([NOISE] * (size // len(NOISE) + 1))
        before = int(depth * size)
        return "\n".join((noise[:before], needle, noise[: size - before]))

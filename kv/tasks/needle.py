"""Needle in a haystack (gkamradt): one sentence in a long text that does not belong there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.tasks.base import CountTokens, Sample, Task, insert_at_depth, largest_fit
from kv.tasks.haystack import NOISE_SENTENCES
from kv.tasks.text import rouge_l

NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."


@dataclass(frozen=True)
class Needle(Task):
    """The sentences of a haystack, repeated as often as needed, with the needle between two of them.

    depth       place of the needle, from 0 to 1; None: a random place
    haystack    sentences, such as haystack.read_sentences gives
    """

    depth: float | None = None
    haystack: tuple[str, ...] = NOISE_SENTENCES
    name: ClassVar[str] = "needle"

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        depth = float(rng.random()) if self.depth is None else self.depth
        question, prefix = (
            "\nWhat is the best thing to do in San Francisco?",
            " The best thing to do in San Francisco is",
        )

        def build(num_sentences: int) -> str:
            sentences = [self.haystack[i % len(self.haystack)] for i in range(num_sentences)]
            return " ".join(insert_at_depth(sentences, NEEDLE, depth))

        count = largest_fit(lambda n: build(n) + question + prefix, num_tokens, count_tokens)
        answers = ("eat a sandwich and sit in Dolores Park on a sunny day",)
        return Sample(build(count), question, answers, 32, depth=depth, answer_prefix=prefix)

    def score(self, prediction: str, sample: Sample) -> float:
        """ROUGE-L F of the first line, without the full stop, and the answer."""
        return rouge_l(prediction.strip().split("\n")[0].rstrip(". "), sample.answers[0])


def grid(depths: int) -> tuple[float, ...]:
    """`depths` evenly spread places from the start to the end (40 in RULER)."""
    return tuple(np.linspace(0, 1, depths).tolist())

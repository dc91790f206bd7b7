"""Perplexity on a long text: how well a model predicts the end of a text whose beginning is in a pruned cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.errors import KVError
from kv.tasks.base import CountTokens, Sample, Task, largest_fit


@dataclass(frozen=True)
class Perplexity(Task):
    """A random passage of a text. About `scored` tokens at its end are the question, which is predicted; the others are
    the context.

    sentences   the sentences of the text, in order
    """

    sentences: tuple[str, ...]
    scored: int = 64
    name: ClassVar[str] = "perplexity"
    chat: ClassVar[bool] = False

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        words = " ".join(self.sentences).split()
        if num_tokens <= self.scored:
            raise KVError(f"{num_tokens} tokens are too few: {self.scored} are scored, and some must come before them")
        place = int(rng.random() * max(1, len(words) - num_tokens))  # a token is at most a word
        words = words[place : place + num_tokens]
        total = largest_fit(lambda n: " ".join(words[:n]), num_tokens, count_tokens, most=len(words))
        scored = largest_fit(
            lambda n: " " + " ".join(words[total - n : total]), self.scored, count_tokens, most=total - 1
        )
        if scored < 1:
            raise KVError(f"the text has {len(words)} words: give one with some to predict and some before them")
        return Sample(" ".join(words[: total - scored]), " " + " ".join(words[total - scored : total]), (), 0)

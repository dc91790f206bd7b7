"""Recall of planted records: ` [ key value ]` somewhere, ` [ key` at the end. The form that small models are trained on
here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kv.errors import KVError
from kv.tasks.base import CountTokens, Sample, Task, largest_fit
from kv.tasks.haystack import NOISE_SENTENCES, NOUNS


@dataclass(frozen=True)
class RecordRecall(Task):
    """Records with different keys strewn over the sentences of a haystack; the value of one is asked for.

    words       keys and values; best one token each
    records     how many
    """

    words: tuple[str, ...] = tuple(NOUNS)
    records: int = 8
    haystack: tuple[str, ...] = NOISE_SENTENCES
    name: str = "recall"  # type: ignore[misc]

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        if len(self.words) < self.records:
            raise KVError(f"{self.records} records need as many different keys: there are {len(self.words)} words")
        keys = rng.choice(self.words, self.records, replace=False).tolist()
        values = rng.choice(self.words, self.records).tolist()
        depths = rng.random(self.records)
        first = int(rng.integers(len(self.haystack)))

        def build(num_sentences: int) -> str:
            sentences = [self.haystack[(first + i) % len(self.haystack)] for i in range(num_sentences)]
            for record in np.argsort(-depths).tolist():
                sentences.insert(round(depths[record] * num_sentences), f"[ {keys[record]} {values[record]} ]")
            return " ".join(sentences)

        question = f" [ {keys[0]}"
        count = largest_fit(lambda n: build(n) + question, num_tokens, count_tokens)
        return Sample(build(count), question, (values[0],), 2, float(depths[0]))

    def score(self, prediction: str, sample: Sample) -> float:
        """1 if the first word is the value."""
        return float(prediction.split()[:1] == [sample.answers[0]])

    def is_decided(self, prediction: str, sample: Sample) -> bool:
        """Once a second word begins, or a first one that the value does not begin with."""
        said = prediction.split()
        return len(said) > 1 or (len(said) == 1 and not sample.answers[0].startswith(said[0]))

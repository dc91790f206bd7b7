"""Recall of records: ` [ key value ]` is somewhere in the text, and ` [ key` is the question. The models that `npusim
train --recall` makes are trained on this form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kv.errors import KVError
from kv.tasks.base import CountTokens, Sample, Task, largest_fit
from kv.tasks.haystack import NOISE_SENTENCES, NOUNS


@dataclass(frozen=True)
class RecordRecall(Task):
    """Records with different keys between the sentences of a haystack. The value of one is asked for.

    words       words for keys and values; each should be one token
    records     number of records
    """

    words: tuple[str, ...] = tuple(NOUNS)
    records: int = 8
    haystack: tuple[str, ...] = NOISE_SENTENCES
    name: str = "recall"  # type: ignore[misc]

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        if len(self.words) < self.records:
            raise KVError(f"{self.records} records need as many different keys, but there are {len(self.words)} words")
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
        """Whether a second word has begun, or the first one is not the start of the value."""
        said = prediction.split()
        return len(said) > 1 or (len(said) == 1 and not sample.answers[0].startswith(said[0]))

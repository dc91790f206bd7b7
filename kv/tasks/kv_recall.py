"""Key-value recall: the value of one key in a long JSON object of random pairs (InfiniteBench's kv_retrieval)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kv.tasks.base import CountTokens, Sample, Task, largest_fit
from kv.tasks.haystack import uuids


@dataclass(frozen=True)
class KeyValueRecall(Task):
    """As many pairs of UUIDs as fit. The value of one of them is asked for."""

    name: ClassVar[str] = "kv_recall"

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        most = max(1, num_tokens // 8)
        keys, values = uuids(rng, most), uuids(rng, most)
        place = float(rng.random())

        prefix = ' The value is "'

        def build(count: int) -> tuple[str, str]:
            context = "Look up the value of a key in this JSON object.\n" + json.dumps(
                dict(zip(keys[:count], values, strict=False))
            )
            return context, f'\nWhat is the value of the key "{keys[int(place * count)]}"?'

        count = largest_fit(lambda n: "".join(build(n)) + prefix, num_tokens, count_tokens, least=1, most=most)
        context, question = build(count)
        asked = int(place * count)
        return Sample(context, question, (values[asked],), 50, depth=asked / count, answer_prefix=prefix)

    def is_decided(self, prediction: str, sample: Sample) -> bool:
        """Whether the closing quotation mark has come."""
        return '"' in prediction

"""RULER's synthetic tasks (NVIDIA/RULER): needles of several kinds, variable tracking, common and frequent words."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kv.errors import KVError
from kv.tasks.base import CountTokens, Sample, Task, largest_fit
from kv.tasks.haystack import NOISE_SENTENCES, numbers, pseudo_words, uuids, word_pairs
from kv.tasks.passkey import NOISE


class Contained(Task):
    """A task that is scored by the answers that occur. More tokens change nothing once all have occurred."""

    def is_decided(self, prediction: str, sample: Sample) -> bool:
        return self.score(prediction, sample) == 1


KINDS: dict[str, Callable[[np.random.Generator, int], list[str]]] = {
    "words": word_pairs,
    "numbers": numbers,
    "uuids": uuids,
}


def needle_sentence(kind: str, key: str, value: str) -> str:
    return f"One of the special magic {kind} for {key} is: {value}."


@dataclass(frozen=True)
class NeedleTask(Contained):
    """Needles in a haystack (RULER's niah tasks): the values of some keys are asked for.

    haystack        "noise", "sentences" (those of `sentences`) or "needles" (others of the same kind)
    num_keys        number of needles with different keys, not counting a haystack of needles
    num_queries     number of keys that are asked for
    num_values      number of values of each key
    """

    name: str  # type: ignore[misc]
    haystack: str = "sentences"
    key_kind: str = "words"
    value_kind: str = "numbers"
    num_keys: int = 1
    num_queries: int = 1
    num_values: int = 1
    sentences: tuple[str, ...] = NOISE_SENTENCES

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        num_keys = max(self.num_keys, self.num_queries)
        kind = "numbers" if self.value_kind == "numbers" else "uuids"
        filler = max(1, num_tokens // 4) if self.haystack == "needles" else 0
        keys = KINDS[self.key_kind](rng, num_keys + filler)
        values = KINDS[self.value_kind](rng, len(keys) * self.num_values)
        needles = [
            needle_sentence(kind, key, values[i * self.num_values + j])
            for i, key in enumerate(keys[:num_keys])
            for j in range(self.num_values)
        ]
        depths = np.sort(rng.random(len(needles)))
        rng.shuffle(needles)
        asked = keys[: self.num_queries]
        plural = len(asked) * self.num_values > 1
        named = ", ".join(asked)
        question = (
            f"\nWhat {'are all the special magic' if plural else 'is the special magic'} {kind} for {named} "
            "mentioned in the text?"
        )
        prefix = f" The special magic {kind} for {named} mentioned in the text {'are' if plural else 'is'}"

        def build(count: int) -> str:
            hay = self._hay(count, kind, keys[num_keys:], values[num_keys * self.num_values :])
            for depth, needle in zip(depths[::-1].tolist(), needles[::-1], strict=True):
                hay.insert(round(depth * count), needle)
            separator = " " if self.haystack == "sentences" else "\n"
            return f"Some special magic {kind} are hidden within the following text. Memorize them.\n" + separator.join(
                hay
            )

        most = len(keys) - num_keys if self.haystack == "needles" else None
        count = largest_fit(lambda n: build(n) + question + prefix, num_tokens, count_tokens, most=most)
        answers = tuple(values[: self.num_queries * self.num_values])
        depth = float(depths[0]) if len(needles) == 1 else None
        return Sample(build(count), question, answers, 128, depth=depth, answer_prefix=prefix)

    def _hay(self, count: int, kind: str, keys: list[str], values: list[str]) -> list[str]:
        if self.haystack == "noise":
            return [NOISE] * count
        if self.haystack == "needles":
            return [needle_sentence(kind, keys[i], values[i]) for i in range(count)]
        return [self.sentences[i % len(self.sentences)] for i in range(count)]


@dataclass(frozen=True)
class VariableTracking(Contained):
    """Chains of assignments in noise. The variables that have the first chain's value are asked for.

    chains  number of chains
    hops    number of assignments of a variable to a variable in each chain
    """

    name: str = "vt"  # type: ignore[misc]
    chains: int = 1
    hops: int = 4

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        length = self.hops + 1
        letters = rng.choice(26**5, self.chains * length, replace=False)[:, None] // 26 ** np.arange(5) % 26
        names = ["".join(string.ascii_uppercase[letter] for letter in word) for word in letters.tolist()]
        values = numbers(rng, self.chains, 5)
        steps: list[list[str]] = []
        for chain in range(self.chains):
            own = names[chain * length : (chain + 1) * length]
            steps.append([f"VAR {own[0]} = {values[chain]}"] + [f"VAR {new} = VAR {old}" for old, new in pairwise(own)])
        depths = [np.sort(rng.random(length)).tolist() for _ in range(self.chains)]
        placed = sorted(
            ((depth, step) for ds, ss in zip(depths, steps, strict=True) for depth, step in zip(ds, ss, strict=True)),
            reverse=True,
        )
        question = f"\nFind all variables that are assigned the value {values[0]} in the text above."
        prefix = f" There are {length} of them, and they are:"

        def build(count: int) -> str:
            hay = [NOISE] * count
            for depth, step in placed:
                hay.insert(round(depth * count), step)
            return "Memorize and track the chains of variable assignment hidden in the following text.\n" + "\n".join(
                hay
            )

        count = largest_fit(lambda n: build(n) + question + prefix, num_tokens, count_tokens)
        return Sample(build(count), question, tuple(names[:length]), 30, answer_prefix=prefix)


@dataclass(frozen=True)
class CommonWords(Contained):
    """A numbered list in which 10 words occur 30 times each and all others 3 times. The common ones are asked for.

    The words are invented; RULER's are English.
    """

    name: str = "cwe"  # type: ignore[misc]
    num_common: int = 10
    common_times: int = 30
    uncommon_times: int = 3

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        most = num_tokens // self.uncommon_times + 1
        words = pseudo_words(rng, self.num_common + most)
        order = rng.random(self.num_common * self.common_times + most * self.uncommon_times)
        question, prefix = f"\nWhat are the {self.num_common} most common words in the above list?", " They are:"

        def build(num_uncommon: int) -> str:
            listed = words[: self.num_common] * self.common_times
            listed += words[self.num_common : self.num_common + num_uncommon] * self.uncommon_times
            shuffled = np.argsort(order[: len(listed)])
            items = (f"{place}. {listed[i]}" for place, i in enumerate(shuffled.tolist(), 1))
            return (
                "Below is a numbered list of words. Some appear more often than others. Memorize those that "
                "appear most often.\n"
            ) + " ".join(items)

        count = largest_fit(lambda n: build(n) + question + prefix, num_tokens, count_tokens, most=most)
        return Sample(build(count), question, tuple(words[: self.num_common]), 120, answer_prefix=prefix)


@dataclass(frozen=True)
class FrequentWords(Contained):
    """Invented words whose frequencies follow a zeta law. The three most frequent words after the dots are asked for.

    alpha   exponent of the law: the frequency of the word of rank r is proportional to r ** -alpha
    """

    name: str = "fwe"  # type: ignore[misc]
    alpha: float = 2.0
    num_words: int = 2000

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        words = pseudo_words(rng, self.num_words)
        words[0] = "..."
        weights = np.arange(1, self.num_words + 1) ** -self.alpha
        drawn = rng.choice(self.num_words, max(64, num_tokens), p=weights / weights.sum())
        question = "\nIgnoring the dots, what are the three most frequently appearing words in the above coded text?"
        prefix = " They are:"

        def build(count: int) -> str:
            text = " ".join(words[i] for i in drawn[:count].tolist())
            return f"Read the following coded text and track how often each coded word appears.\n{text}"

        count = largest_fit(lambda n: build(n) + question + prefix, num_tokens, count_tokens, least=32, most=len(drawn))
        seen = np.bincount(drawn[:count], minlength=self.num_words)
        seen[0] = 0
        top = np.argsort(-seen, kind="stable")[:3]
        if (seen[top] == 0).any():
            raise KVError(f"{num_tokens} tokens have fewer than three different words: give a longer context")
        return Sample(build(count), question, tuple(words[i] for i in top.tolist()), 50, answer_prefix=prefix)


def ruler_tasks(sentences: tuple[str, ...] = NOISE_SENTENCES) -> tuple[Task, ...]:
    """RULER's eleven synthetic tasks. `sentences` are the haystack of tasks with prose (Paul Graham's essays in the
    original)."""
    prose: dict[str, Any] = {"haystack": "sentences", "sentences": sentences}
    return (
        NeedleTask("niah_single_1", haystack="noise"),
        NeedleTask("niah_single_2", **prose),
        NeedleTask("niah_single_3", value_kind="uuids", **prose),
        NeedleTask("niah_multikey_1", num_keys=4, **prose),
        NeedleTask("niah_multikey_2", haystack="needles"),
        NeedleTask("niah_multikey_3", haystack="needles", key_kind="uuids", value_kind="uuids"),
        NeedleTask("niah_multivalue", num_values=4, **prose),
        NeedleTask("niah_multiquery", num_queries=4, **prose),
        VariableTracking(),
        CommonWords(),
        FrequentWords(),
    )

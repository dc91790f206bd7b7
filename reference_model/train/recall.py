"""Synthetic key-value recall: records ` [ key value ]` strewn in a text, each repeated later.

The second time, the value can be known. Keys and values are whole words of the text that are one token each. A model
that completes the second ` [ key` with the right value has looked up the first, as far back as that was. This is the
skill that a pruned cache puts at risk. Key and value are neighbours so that the plain induction circuit
(arXiv:2209.11895) suffices. With a mark between them, a model of this size did not learn it in 14 M tokens; without
the mark it did in 150 more steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reference_model.errors import ModelError

Ids = NDArray[np.int64]
RECORD_TOKENS = 4
QUERY_TOKENS = 2
MIN_WORDS = 32


def record_text(key: str, value: str) -> str:
    return f" [ {key} {value} ]"


class Exercise(NamedTuple):
    """tokens int [length]; the places that are not to be learnt; the places of values that can be recalled.

    Keys and new values cannot be known. Where records begin could be guessed by their rate, but a model that learns
    this strews records itself."""

    tokens: Ids
    unlearnt: Ids
    answers: Ids


@dataclass(frozen=True)
class Recall:
    """opening, closing: the ids of ` [` and ` ]`. words: ids of the words that serve as keys and values."""

    opening: int
    closing: int
    words: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Recall:
        """The marks and words of a tokenizer. Words are tokens of a space and three or more lower-case letters.

        Raises ModelError when the tokenizer splits a mark or has fewer than MIN_WORDS words."""
        marks = [tokenizer.encode(mark).ids for mark in (" [", " ]")]
        if any(len(ids) != 1 for ids in marks):
            raise ModelError(
                "this tokenizer splits the marks ' [' and ' ]' of recall records: train one that has seen them"
            )
        pieces = [(token, tokenizer.decode([token])) for token in range(tokenizer.get_vocab_size())]
        words = tuple(
            token
            for token, piece in pieces
            if piece[:1] == " "
            and len(piece) > 3
            and piece[1:].isascii()
            and piece[1:].isalpha()
            and piece[1:].islower()
        )
        if len(words) < MIN_WORDS:
            raise ModelError(
                f"this tokenizer has {len(words)} whole words, recall needs at least {MIN_WORDS}: use a "
                "larger vocabulary or a longer text"
            )
        return cls(marks[0][0], marks[1][0], words)

    def dense(self, rng: np.random.Generator, length: int) -> Exercise:
        """Nothing but records: some new ones, then repetitions of them."""
        total = -(-length // RECORD_TOKENS)
        count = int(rng.integers(1, min(total // 2, len(self.words)) + 1))
        order = np.concatenate([np.arange(count), rng.integers(0, count, total - count)])
        starts = np.arange(total) * RECORD_TOKENS
        return _exercise(self._records(rng, count)[order].ravel()[:length], starts, count)

    def planted(self, rng: np.random.Generator, text: Ids, count: int) -> Exercise:
        """Records in an early part of the text, their repetitions in a late part.

        Both parts are random, so that all distances occur. The result is 2 * count * RECORD_TOKENS longer than the
        text."""
        early, late = np.sort(rng.uniform(0, len(text), 2))
        offsets = np.sort(np.concatenate([rng.uniform(0, early, count), rng.uniform(late, len(text), count)])).astype(
            np.int64
        )
        order = np.concatenate([np.arange(count), rng.permutation(count)])
        tokens = _insert(text, offsets, self._records(rng, count)[order])
        return _exercise(tokens, offsets + np.arange(2 * count) * RECORD_TOKENS, count)

    def question(
        self, rng: np.random.Generator, text: Ids, length: int, distance: int, count: int = 8
    ) -> tuple[Ids, int]:
        """A prompt of `length` tokens, and the value that should come next.

        The value stands `distance` tokens back, and count - 1 other records are around it. text is filler, at least
        `length` tokens."""
        records = self._records(rng, count)
        query = records[0][:QUERY_TOKENS]
        num_between = (
            distance - QUERY_TOKENS - 2
        )  # the value itself and the record's closing mark are among the `distance` tokens
        inside = min((count - 1) // 2, max(num_between, 0) // (2 * RECORD_TOKENS))
        num_before = length - num_between - RECORD_TOKENS - QUERY_TOKENS
        if num_between < 0 or num_before < (count - 1 - inside) * RECORD_TOKENS:
            raise ModelError(
                f"a value {distance} tokens back and {count} records do not fit in {length} tokens: use a longer prompt"
            )
        between = _strew(rng, text, num_between, records[1 : 1 + inside])
        before = _strew(rng, text[num_between:], num_before, records[1 + inside :])
        return np.concatenate([before, records[0], between, query]), int(records[0][2])

    def _records(self, rng: np.random.Generator, count: int) -> Ids:
        """Records with different keys and any values: [count, RECORD_TOKENS]."""
        words = np.array(self.words)
        keys, values = rng.choice(words, count, replace=False), rng.choice(words, count)
        return np.stack([np.full(count, self.opening), keys, values, np.full(count, self.closing)], 1)


def _exercise(tokens: Ids, starts: Ids, num_new: int) -> Exercise:
    """Records begin at `starts`; the first num_new of them are new.

    The end of tokens may cut off the last one."""
    unlearnt = np.concatenate([starts, starts + 1, starts[:num_new] + 2])
    answers = starts[num_new:] + 2
    return Exercise(tokens, unlearnt[unlearnt < len(tokens)], answers[answers < len(tokens)])


def _insert(text: Ids, offsets: Ids, records: Ids) -> Ids:
    """The text with records [n, RECORD_TOKENS] put before its tokens at `offsets` [n]."""
    return np.insert(text, np.repeat(offsets, RECORD_TOKENS), records.ravel())


def _strew(rng: np.random.Generator, text: Ids, length: int, records: Ids) -> Ids:
    """Text with records at random places, `length` tokens in all."""
    filler = text[: length - records.size]
    return _insert(filler, rng.integers(0, len(filler) + 1, len(records)), records)

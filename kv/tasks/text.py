"""The text measures of the benchmarks' scorers: normalisation, F1 of tokens, ROUGE-L."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from importlib import import_module

import numpy as np

from kv.errors import KVError

CHINESE_PUNCTUATION = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."  # noqa: E501, RUF001
_DELETE = {ord(character): None for character in string.punctuation}
_DELETE_CHINESE = _DELETE | {ord(character): None for character in CHINESE_PUNCTUATION}


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces (SQuAD's rule): "New-York" becomes "newyork"."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_DELETE)).split())


def normalise_chinese(text: str) -> str:
    """Lower case, no ASCII or Chinese punctuation, no white space."""
    return "".join(text.lower().translate(_DELETE_CHINESE).split())


def chinese_words(text: str) -> list[str]:
    """The words of a text as jieba separates them. Raises KVError if jieba is not installed."""
    try:
        jieba = import_module("jieba")
    except ImportError as error:
        raise KVError(
            "scoring Chinese text by words needs the package jieba, which is not installed: pip install jieba"
        ) from error
    return list(jieba.cut(text, cut_all=False))


def token_f1(prediction: Sequence[str], truth: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of tokens, with repeated tokens counted; 0 if nothing is shared."""
    shared = sum((Counter(prediction) & Counter(truth)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(truth)
    return 2 * precision * recall / (precision + recall)


def common_subsequence(left: Sequence[str], right: Sequence[str], skip_left_on_tie: bool) -> list[int]:
    """Indices in `left` of a longest common subsequence. If skipping a word of `left` and skipping one of `right` are
    equally good, `skip_left_on_tie` decides."""
    ids: dict[str, int] = {}
    rows = np.array([ids.setdefault(word, len(ids)) for word in left], np.int64)
    columns = np.array([ids.setdefault(word, len(ids)) for word in right], np.int64)
    table = np.zeros((len(left) + 1, len(right) + 1), np.int32)
    for i, word in enumerate(rows):
        np.maximum.accumulate(np.where(columns == word, table[i, :-1] + 1, table[i, 1:]), out=table[i + 1, 1:])
    indices = []
    i, j = len(left), len(right)
    while i and j:
        up, back = table[i - 1, j], table[i, j - 1]
        if left[i - 1] == right[j - 1]:
            i, j = i - 1, j - 1
            indices.append(i)
        elif up > back or (up == back and skip_left_on_tie):
            i -= 1
        else:
            j -= 1
    return indices[::-1]


def rouge_l(prediction: str, truth: str) -> float:
    """ROUGE-L F as the package rouge 1.0.1 computes it: sentences end at ".", each word counts once, and case matters.
    0 for an empty text.

    The words of the longest common subsequences of each sentence of the truth with each sentence of the prediction
    count as shared."""
    said, true = ([" ".join(part.split()) for part in text.split(".") if part] for text in (prediction, truth))
    if not said or not true:
        return 0.0
    said_words, true_words = ({word for sentence in text for word in sentence.split(" ")} for text in (said, true))
    union: set[str] = set()
    for sentence in true:
        words = sentence.split(" ")
        for other in said:
            union.update(words[i] for i in common_subsequence(words, other.split(" "), skip_left_on_tie=False))
    recall, precision = len(union) / len(true_words), len(union) / len(said_words)
    return 2 * precision * recall / (precision + recall + 1e-8)


def rouge_lsum(prediction: str, truth: str) -> float:
    """ROUGE-Lsum F as the package rouge_score computes it without stemming: lines are sentences, and tokens consist of
    lower-case letters and digits."""
    said, true = (
        [re.findall("[a-z0-9]+", line.lower()) for line in text.split("\n") if line] for text in (prediction, truth)
    )
    said_left, true_left = (Counter(token for sentence in text for token in sentence) for text in (said, true))
    num_said, num_true = sum(said_left.values()), sum(true_left.values())
    hits = 0
    for sentence in true:
        found = {i for other in said for i in common_subsequence(sentence, other, skip_left_on_tie=True)}
        for token in (sentence[i] for i in sorted(found)):
            if said_left[token] > 0 and true_left[token] > 0:
                hits += 1
                said_left[token] -= 1
                true_left[token] -= 1
    if not hits:
        return 0.0
    precision, recall = hits / num_said, hits / num_true
    return 2 * precision * recall / (precision + recall)

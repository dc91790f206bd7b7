"""LongBench v1 (THUDM/LongBench): its files, its metrics, its scores."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kv.errors import KVError
from kv.tasks.jsonl import read_jsonl
from kv.tasks.text import chinese_words, normalise, normalise_chinese, rouge_l, token_f1

Metric = Callable[..., float]


def qa_f1(prediction: str, truth: str, **_: Any) -> float:
    """F1 of normalised words."""
    return token_f1(normalise(prediction).split(), normalise(truth).split())


def qa_f1_chinese(prediction: str, truth: str, **_: Any) -> float:
    """F1 of normalised words as jieba separates them."""
    said, true = (
        [word for word in map(normalise_chinese, chinese_words(text)) if word] for text in (prediction, truth)
    )
    return token_f1(said, true)


def rouge(prediction: str, truth: str, **_: Any) -> float:
    """ROUGE-L F of whole texts. The original gives 0 if an error occurs, for example with sentences of about 1,000
    words; this function does not."""
    return rouge_l(prediction, truth)


def rouge_chinese(prediction: str, truth: str, **_: Any) -> float:
    return rouge_l(" ".join(chinese_words(prediction)), " ".join(chinese_words(truth)))


def classification(
    prediction: str, truth: str, all_classes: Sequence[str] | None = None, strict_original: bool = False, **_: Any
) -> float:
    """1 / number of class names in the prediction, if the true one is among them, else 0. Names that are part of the
    true one are not counted.

    The original removes those names from the list while it iterates over it, so some of them stay. strict_original does
    the same."""
    named = [name for name in all_classes or () if name in prediction]
    if strict_original:
        for name in named:
            if name in truth and name != truth:
                named.remove(name)
    else:
        named = [name for name in named if name == truth or name not in truth]
    return 1 / len(named) if truth in named else 0.0


def _share_of_numbers(prediction: str, wanted: str) -> float:
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(wanted) / len(numbers) if numbers else 0.0


def count(prediction: str, truth: str, **_: Any) -> float:
    """The share of the numbers in the prediction that are the true one."""
    return _share_of_numbers(prediction, str(truth))


def _retrieval(prediction: str, truth: str, label: str) -> float:
    wanted = re.search(rf"{label}(\d+)", truth)
    if wanted is None:
        raise KVError(f"the answer {truth[:40]!r} names no paragraph: {label!r} and a number is expected")
    return _share_of_numbers(prediction, wanted.group(1))


def retrieval(prediction: str, truth: str, **_: Any) -> float:
    return _retrieval(prediction, truth, "Paragraph ")


def retrieval_chinese(prediction: str, truth: str, **_: Any) -> float:
    return _retrieval(prediction, truth, "段落")


def code_similarity(prediction: str, truth: str, **_: Any) -> float:
    """Similarity of the first line that has no "`", "#" or "//", in whole hundredths, as fuzzywuzzy computes it with
    difflib."""
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    return round(100 * difflib.SequenceMatcher(None, line, truth).ratio()) / 100


@dataclass(frozen=True)
class LongBenchTask:
    """How one of the 21 data sets is run and scored.

    first_line  whether only the first line of a prediction counts
    chat        whether the prompt is put into the model's chat format
    """

    name: str
    metric: Metric
    max_new_tokens: int
    first_line: bool = False
    chat: bool = True


LONGBENCH_TASKS = (
    LongBenchTask("narrativeqa", qa_f1, 128),
    LongBenchTask("qasper", qa_f1, 128),
    LongBenchTask("multifieldqa_en", qa_f1, 64),
    LongBenchTask("multifieldqa_zh", qa_f1_chinese, 64),
    LongBenchTask("hotpotqa", qa_f1, 32),
    LongBenchTask("2wikimqa", qa_f1, 32),
    LongBenchTask("musique", qa_f1, 32),
    LongBenchTask("dureader", rouge_chinese, 128),
    LongBenchTask("gov_report", rouge, 512),
    LongBenchTask("qmsum", rouge, 512),
    LongBenchTask("multi_news", rouge, 512),
    LongBenchTask("vcsum", rouge_chinese, 512),
    LongBenchTask("trec", classification, 64, first_line=True, chat=False),
    LongBenchTask("triviaqa", qa_f1, 32, first_line=True, chat=False),
    LongBenchTask("samsum", rouge, 128, first_line=True, chat=False),
    LongBenchTask("lsht", classification, 64, first_line=True, chat=False),
    LongBenchTask("passage_count", count, 32),
    LongBenchTask("passage_retrieval_en", retrieval, 32),
    LongBenchTask("passage_retrieval_zh", retrieval_chinese, 32),
    LongBenchTask("lcc", code_similarity, 64, chat=False),
    LongBenchTask("repobench-p", code_similarity, 64, chat=False),
)


def longbench_task(name: str) -> LongBenchTask:
    """The task with this name, or with the name of its LongBench-E file, "<name>_e". Raises KVError if there is
    none."""
    for task in LONGBENCH_TASKS:
        if name in (task.name, f"{task.name}_e"):
            return task
    raise KVError(
        f"there is no LongBench task {name!r}: choose one of {', '.join(task.name for task in LONGBENCH_TASKS)}"
    )


def score_sample(
    task: LongBenchTask,
    prediction: str,
    answers: Sequence[str],
    all_classes: Sequence[str] | None = None,
    strict_original: bool = False,
) -> float:
    """The best score over the answers, from 0 to 1."""
    if task.first_line:
        prediction = prediction.lstrip("\n").split("\n")[0]
    scores = (
        task.metric(prediction, answer, all_classes=all_classes, strict_original=strict_original) for answer in answers
    )
    return max(scores, default=0.0)


@dataclass(frozen=True)
class Scores:
    """The mean score of a file of predictions in percent, also by length (`buckets`), and the damaged lines."""

    percent: float
    num_samples: int
    buckets: dict[str, float]
    damaged: tuple[tuple[int, str], ...]


def score_predictions(path: Path, task_name: str, strict_original: bool = False) -> Scores:
    """Scores a file whose lines have `pred`, `answers`, `all_classes` and, for LongBench-E, `length`. Scores are
    rounded to 2 decimals. Raises KVError for another file.

    With strict_original, the class names of the last line are used for the whole file. Buckets are LongBench-E's, by
    length in words."""
    task = longbench_task(task_name)
    lines = read_jsonl(path)
    lines.require(
        *("pred", "answers", "all_classes"), pred=str, answers=list, all_classes=(list, type(None)), length=(int, float)
    )
    last_classes = lines.rows[-1][1]["all_classes"]
    scores = []
    buckets: dict[str, list[float]] = {}
    for _, row in lines.rows:
        classes = last_classes if strict_original else row["all_classes"]
        scores.append(score_sample(task, row["pred"], row["answers"], classes, strict_original))
        if "length" in row:
            bucket = "0-4k" if row["length"] < 4000 else "4-8k" if row["length"] < 8000 else "8k+"
            buckets.setdefault(bucket, []).append(scores[-1])
    means = {name: round(100 * sum(values) / len(values), 2) for name, values in sorted(buckets.items())}
    return Scores(round(100 * sum(scores) / len(scores), 2), len(scores), means, tuple(lines.damaged))

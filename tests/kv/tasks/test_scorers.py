"""The scorers of LongBench and InfiniteBench against values that the original scorers gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kv.errors import KVError
from kv.tasks import infinitebench, longbench
from kv.tasks.jsonl import read_jsonl
from kv.tasks.text import common_subsequence, rouge_l, rouge_lsum, token_f1

TREC = ["Food", "Other location", "City", "Other entity", "Individual"]

# (metric, prediction, truth, score by LongBench's metrics.py with rouge 1.0.1 and fuzzywuzzy on difflib)
LONGBENCH_GOLDENS: list[tuple[longbench.Metric, str, Any, float]] = [
    (longbench.qa_f1, "The cat sat.", "a cat sat on the mat", 0.666667),
    (longbench.qa_f1, "", "x", 0),
    (longbench.qa_f1, "the", "a", 0),
    (longbench.qa_f1, "New-York", "new york", 0),
    (longbench.count, "There are 7 or 8", 7, 0.5),
    (longbench.count, "none", 7, 0),
    (longbench.count, "07", "7", 0),
    (longbench.retrieval, "Paragraph 3", "Paragraph 3", 1),
    (longbench.retrieval, "Paragraph 3 and 12", "Paragraph 12", 0.5),
    (longbench.code_similarity, "\n# hi\nreturn x+1\nfoo", "return x + 1", 0.91),
    (longbench.code_similarity, "", "x", 0),
    (longbench.code_similarity, "abc", "abc", 1),
    (longbench.code_similarity, "# only comment", "abc", 0),
    (longbench.rouge, "the cat sat on the mat", "the cat is on the mat", 0.8),
    (longbench.rouge, "the the the the", "the", 1),
    (longbench.rouge, "", "x", 0),
    (longbench.rouge, "Cat", "cat", 0),
    (longbench.rouge, "...", "x", 0),
    (longbench.rouge, "a b. c d", "c d. a b", 1),
    (longbench.rouge, "a b c d", "c d a b", 0.5),
]

# (prediction, truth, classes, score by the original, score without its removal while iterating)
CLASSIFICATION_GOLDENS = [
    ("City", "City", TREC, 1, 1),
    ("City Food", "City", TREC, 0.5, 0.5),
    ("Type: Other location", "Other location", [*TREC, "location"], 1, 1),
    ("abcd", "abcd", ["a", "b", "ab", "abcd"], 0.5, 1),
    ("food", "Food", TREC, 0, 0),
]

# (task, prediction, label, score by InfiniteBench's compute_scores.py, score with its mistakes mended)
INFINITEBENCH_GOLDENS: list[tuple[str, str, Any, float, float]] = [
    ("passkey", "The pass key is 71432.", ["71432"], 1, 1),
    ("passkey", "71,432", ["71432"], 0, 0),
    ("passkey", "71432", 71432, 0, 1),
    ("number_string", "num 12 34", "12", 1, 1),
    ("kv_retrieval", '"abc-1"', "abc-1", 1, 1),
    ("kv_retrieval", '"abc-1"', ["abc-1"], 0, 1),
    ("code_run", "the return value is -4.", -4, 1, 1),
    ("code_run", "4", "4", 0, 1),
    ("code_run", "", 4, 0, 0),
    ("code_debug", "B. foo", ["foo", "B"], 1, 1),
    ("code_debug", "The answer is: foo", ["foo", "B"], 1, 1),
    ("code_debug", "foo", ["foo", "B"], 0, 0),
    ("math_find", "= 12", 12, 1, 1),
    ("math_find", "-12", -12, 0, 1),
    ("math_find", "12", 12.0, 1, 1),
    ("longdialogue_qa_eng", "It is John.", ["JOHN"], 1, 1),
    ("longdialogue_qa_eng", "mary ann", ["MARY ANN"], 0, 1),
    ("longbook_choice_eng", "A man did it", ["foo", "B"], 0, 0),
    ("longbook_choice_eng", "A man did it: the answer is B", ["foo", "B"], 0, 1),
    ("longbook_choice_eng", "the answer is B", ["foo", "B"], 1, 1),
    ("longbook_choice_eng", "foo", ["foo", "B"], 1, 1),
    ("longbook_choice_eng", "maybe BC", ["foo", "BC"], 1, 0),
    ("longbook_qa_eng", "a cat", ["dog", "the cat"], 1, 1),
    ("longbook_qa_chn", "张三，", ["张三丰"], 0.8, 0.8),  # noqa: RUF001
    ("math_calc", "[1, 2, 5]", [1, 2, 3, 4], 0.5, 0.5),
    ("math_calc", "-1, 2", [-1, 2], 0, 1),
]


@pytest.mark.parametrize("metric, prediction, truth, expected", LONGBENCH_GOLDENS)
def test_longbench_metrics_give_the_values_of_the_original(
    metric: longbench.Metric, prediction: str, truth: Any, expected: float
) -> None:
    assert metric(prediction, truth) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("prediction, truth, classes, original, mended", CLASSIFICATION_GOLDENS)
def test_classification_mends_the_removal_from_the_list_walked_over(
    prediction: str, truth: str, classes: list[str], original: float, mended: float
) -> None:
    assert longbench.classification(prediction, truth, all_classes=classes, strict_original=True) == original
    assert longbench.classification(prediction, truth, all_classes=classes) == mended


@pytest.mark.parametrize("task, prediction, label, original, mended", INFINITEBENCH_GOLDENS)
def test_infinitebench_scorers_give_the_values_of_the_original_or_mend_them(
    task: str, prediction: str, label: Any, original: float, mended: float
) -> None:
    assert infinitebench.score(task, prediction, label, strict_original=True) == pytest.approx(original)
    assert infinitebench.score(task, prediction, label) == pytest.approx(mended)


def test_a_decimal_for_a_whole_label_stops_the_original_and_is_wrong_otherwise() -> None:
    with pytest.raises(ValueError, match=r"3\.50"):
        infinitebench.score("math_find", "3.50", 3, strict_original=True)
    assert infinitebench.score("math_find", "3.50", 3) == 0 and infinitebench.score("math_find", "3.0", 3) == 1


def test_the_first_number_of_gpt4_is_skipped_in_math_calc_only() -> None:
    assert infinitebench.score("math_calc", "9, 1, 2", [1, 2], skip_first_number=True) == 1
    assert infinitebench.score("passkey", "12", "12", skip_first_number=True) == 1


# Made with rouge_score 0.1.2, rougeLsum without stemming.
@pytest.mark.parametrize(
    "prediction, truth, expected",
    [
        ("The cat. Sat\non the mat", "the CAT on\na mat", 6 / 11),
        ("a b\nb a", "b\na", 2 / 3),
        ("", "x", 0),
        ("---", "x", 0),
        ("x-y", "x y", 1),
    ],
)
def test_rouge_lsum_counts_lower_case_tokens_of_lines(prediction: str, truth: str, expected: float) -> None:
    assert rouge_lsum(prediction, truth) == pytest.approx(expected)


WORDS = st.lists(st.sampled_from("abc"), max_size=8)


@given(WORDS, WORDS, st.booleans())
def test_a_common_subsequence_is_one_and_none_is_longer(left: list[str], right: list[str], skip_left: bool) -> None:
    def longest(i: int, j: int) -> int:
        if i == len(left) or j == len(right):
            return 0
        if left[i] == right[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    indices = common_subsequence(left, right, skip_left)
    remaining = iter(right)
    assert indices == sorted(set(indices)) and all(left[i] in remaining for i in indices)
    assert len(indices) == longest(0, 0)


@given(st.text("ab .", max_size=20), st.text("ab .", max_size=20))
def test_text_measures_lie_between_zero_and_one_and_are_one_for_equal_texts(left: str, right: str) -> None:
    for measure in (rouge_l, rouge_lsum, lambda a, b: token_f1(a.split(), b.split())):
        assert 0 <= measure(left, right) <= 1 + 1e-9
    assert rouge_l(left, left) == pytest.approx(1 if left.replace(".", "") else 0, abs=1e-6)


def write(path: Path, *lines: str | dict[str, Any]) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_a_damaged_line_is_named_and_the_others_are_scored(tmp_path: Path) -> None:
    path = write(
        tmp_path / "preds.jsonl", {"pred": "71", "label": "71"}, '{"pred": 1', "[1]", "", {"prediction": "5",
        "ground_truth": ["6"]},
        '{"pred": "7", "label": "7"}gi',
    )  # fmt: skip
    scored = infinitebench.score_predictions(path, "passkey", strict_original=True)
    assert (scored.percent, scored.num_samples) == (pytest.approx(200 / 3), 3)
    assert [number for number, _ in scored.damaged] == [2, 3, 6] and scored.damaged[2][1] == "has 'gi' after its object"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "holds no JSON object"),
        (b"\xff\xfe\n", r"holds no JSON object; line 1 is not JSON: 'utf-8' codec"),
        (b"[" * 100_000, "holds no JSON object; line 1 is not JSON"),
        (b'{"pred": "x"}', r"p\.jsonl, line 1 lacks a prediction or a label"),
        (
            b'{"pred": "1", "label": "1"}\n{"pred": "1.5", "label": [3]}',
            r"p\.jsonl, line 2 cannot be scored as math_find",
        ),
    ],
)
def test_unusable_files_get_one_sentence_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    task = "math_find" if b"1.5" in content else "passkey"
    if task == "math_find":
        path.write_bytes(content.replace(b'"label": "1"', b'"label": 1'))
    with pytest.raises(KVError, match=message):
        infinitebench.score_predictions(path, task, strict_original=True)
    with pytest.raises(KVError, match="cannot be read"):
        read_jsonl(tmp_path / "absent")


def test_longbench_files_are_scored_by_sample_and_by_length(tmp_path: Path) -> None:
    rows = [
        {"pred": "\nCity\nFood", "answers": ["City"], "all_classes": TREC, "length": 100},
        {"pred": "abcd", "answers": ["abcd", "x"], "all_classes": ["a", "b", "ab", "abcd"], "length": 5000},
    ]
    path = write(tmp_path / "trec.jsonl", *rows)
    mended = longbench.score_predictions(path, "trec_e")
    assert (mended.percent, mended.num_samples, mended.buckets) == (100, 2, {"0-4k": 100, "4-8k": 100})
    strict = longbench.score_predictions(path, "trec", strict_original=True)
    assert strict.percent == 25, "the classes of the last line serve for all, and one name survives removal"
    with pytest.raises(KVError, match="line 1 has no field 'answers'"):
        longbench.score_predictions(write(tmp_path / "x.jsonl", {"pred": "", "all_classes": None}), "trec")


def test_unknown_tasks_are_refused_with_the_choices() -> None:
    with pytest.raises(KVError, match="choose one of narrativeqa"):
        longbench.longbench_task("nothing")
    with pytest.raises(KVError, match="choose one of passkey"):
        infinitebench.infinitebench_task("nothing")

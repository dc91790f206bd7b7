"""Samples are as long as was asked, hold their answers where they say, and are scored as the originals score."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kv.errors import KVError
from kv.metrics import kl_divergence, log_softmax, perplexity
from kv.tasks import TASKS, task_named
from kv.tasks.base import Task, largest_fit, string_match_all, string_match_part
from kv.tasks.haystack import ADJECTIVES, NOUNS, pseudo_words, read_sentences, uuids, word_pairs
from kv.tasks.kv_recall import KeyValueRecall
from kv.tasks.needle import Needle, grid
from kv.tasks.passkey import INTRODUCTION, NOISE, Passkey, PasskeySpaces
from kv.tasks.qa import QuestionAnswering, read_hotpotqa, read_squad
from kv.tasks.ruler import CommonWords, FrequentWords, NeedleTask, VariableTracking

each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def count_tokens(text: str) -> int:
    """A tokenizer of words and single other characters."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def sample_of(task: Task, seed: int = 0, num_tokens: int = 2000):  # type: ignore[no-untyped-def]
    return task.sample(np.random.default_rng(seed), num_tokens, count_tokens)


@pytest.mark.slow
@each_task
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), num_tokens=st.integers(1500, 4000))
def test_a_sample_fills_the_wanted_length_and_does_not_exceed_it(task: Task, seed: int, num_tokens: int) -> None:
    sample = sample_of(task, seed, num_tokens)
    length = count_tokens(sample.context + sample.question + sample.answer_prefix)
    assert num_tokens - 80 <= length <= num_tokens


@each_task
def test_equal_seeds_give_equal_samples_and_other_seeds_others(task: Task) -> None:
    assert sample_of(task, 1) == sample_of(task, 1)
    assert sample_of(task, 1) != sample_of(task, 2)


@each_task
@given(seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_every_answer_is_in_the_context_and_not_in_the_question(task: Task, seed: int) -> None:
    sample = sample_of(task, seed)
    for answer in sample.answers:
        assert answer in sample.context and answer not in sample.question


@each_task
def test_the_references_score_one_and_nothing_scores_zero(task: Task) -> None:
    sample = sample_of(task)
    assert task.score(" and ".join(sample.answers), sample) == pytest.approx(1)
    assert task.score("I do not know", sample) == 0


@each_task
def test_a_context_that_is_too_short_is_refused_with_what_it_takes(task: Task) -> None:
    with pytest.raises(KVError, match="5 tokens are too few: the shortest sample has"):
        sample_of(task, num_tokens=5)


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("task", [Passkey, PasskeySpaces, Needle])
def test_a_needle_lies_at_its_depth(task: type[Passkey] | type[Needle], depth: float) -> None:
    sample = sample_of(task(depth=depth), num_tokens=4000)
    place = sample.context.index(sample.answers[0]) / len(sample.context)
    assert sample.depth == depth and place == pytest.approx(depth, abs=0.02)


def test_the_originals_noise_is_one_line_of_sentences_on_each_side_of_the_key() -> None:
    before, needle, after = sample_of(PasskeySpaces(depth=0.5)).context.removeprefix(INTRODUCTION).split("\n")
    assert needle.startswith("The pass key is ") and abs(len(before) - len(after)) <= 1
    assert all(
        (NOISE + " ").startswith(line[: len(NOISE) + 1]) and NOISE + " The grass" in line for line in (before, after)
    )


def test_passkey_is_right_if_the_first_number_is_the_key() -> None:
    sample = sample_of(Passkey())
    key = sample.answers[0]
    assert len(key) == 5 and sample.context.count(key) == 2
    assert [Passkey().score(text, sample) for text in (f" {key}.", f"it is {key} or 1", f"1 or {key}", "")] == [
        1,
        1,
        0,
        0,
    ]


def test_a_needle_is_scored_by_rouge_of_the_first_line() -> None:
    sample = sample_of(Needle())
    assert Needle().score("eat a sandwich and sit in Dolores Park on a sunny day.\nAlso more", sample) == pytest.approx(
        1
    )
    assert 0 < Needle().score("eat a sandwich", sample) < 1
    assert grid(3) == (0, 0.5, 1)


def test_key_value_recall_is_a_json_object_with_the_asked_pair() -> None:
    sample = sample_of(KeyValueRecall())
    pairs = json.loads(sample.context.split("\n", 1)[1])
    (key,) = re.findall('"([0-9a-f-]+)"', sample.question)
    assert pairs[key] == sample.answers[0]


@pytest.mark.parametrize("task", [task for task in TASKS if isinstance(task, NeedleTask)], ids=lambda task: task.name)
def test_niah_tasks_hide_as_many_needles_as_they_say_and_ask_for_the_right_ones(task: NeedleTask) -> None:
    sample = sample_of(task, num_tokens=3000)
    needles = re.findall(r"special magic \w+ for (\S+) is: ([\w-]+)\.", sample.context)
    hidden = max(task.num_keys, task.num_queries) * task.num_values
    assert len(needles) > hidden if task.haystack == "needles" else len(needles) == hidden
    asked = {key for key, _ in needles if key in sample.question}
    assert len(asked) == task.num_queries
    assert sorted(value for key, value in needles if key in asked) == sorted(sample.answers)


def test_variable_tracking_reaches_its_answers_and_no_others() -> None:
    sample = sample_of(VariableTracking(chains=2))
    steps = re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", sample.context)
    value = re.search(r"value (\d+)", sample.question)
    assert value is not None and len(steps) == 10
    reached = {value.group(1)}
    for new, old in steps:  # each step is placed after the one it refers to
        if old in reached:
            reached.add(new)
    assert reached - {value.group(1)} == set(sample.answers)


def test_common_words_are_the_most_common() -> None:
    sample = sample_of(CommonWords(), num_tokens=6000)
    words = re.findall(r"\d+\. (\w+)", sample.context)
    counts = {word: words.count(word) for word in set(words)}
    assert set(counts.values()) == {3, 30} and {word for word in counts if counts[word] == 30} == set(sample.answers)


def test_frequent_words_are_the_three_most_frequent_that_are_not_dots() -> None:
    sample = sample_of(FrequentWords(), num_tokens=6000)
    words = sample.context.split("\n", 1)[1].split()
    counts = sorted(((words.count(word), word) for word in set(words) if word != "..."), reverse=True)
    assert [count for count, _ in counts[:3]] == sorted(
        (words.count(answer) for answer in sample.answers), reverse=True
    )


@given(seed=st.integers(0, 99), count=st.integers(1, 300))
def test_keys_are_different(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    for make in (word_pairs, uuids, pseudo_words):
        assert len(set(make(rng, count))) == count
    assert len(set(ADJECTIVES)) == len(ADJECTIVES) and len(set(NOUNS)) == len(NOUNS)


@given(limit=st.integers(0, 500), step=st.integers(1, 9), most=st.none() | st.integers(0, 60))
def test_the_largest_fit_fits_and_one_more_would_not(limit: int, step: int, most: int | None) -> None:
    n = largest_fit(lambda n: "x " * (n * step), limit, count_tokens, most=most)
    assert n * step <= limit and ((n + 1) * step > limit or n == most)


def test_string_match_is_the_share_of_references_found_whatever_their_case() -> None:
    """RULER's string_match_all and string_match_part."""
    assert string_match_all("The ALPHA\x00 and beta", ("alpha", "Beta", "gamma", "delta")) == 0.5
    assert string_match_part("the alpha", ("alpha", "gamma")) == 1 and string_match_part("no", ("alpha",)) == 0


SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": f"Paragraph {i} says {i * 111}.",
                    "qas": [{"question": f"What does {i} say?", "answers": [{"text": str(i * 111)}]}],
                }
                for i in range(1, 40)
            ]
        }
    ]
}
HOTPOT = [
    {
        "question": f"Who is {i}?",
        "answer": f"Person {i}",
        "context": [["Title", [f"Person {i} ", f"is {i}."]], ["Shared", ["Nothing."]]],
    }
    for i in range(1, 40)
]


@pytest.mark.parametrize("content, read, name", [(SQUAD, read_squad, "qa_1"), (HOTPOT, read_hotpotqa, "qa_2")])
def test_questions_come_with_their_own_paragraphs_among_others(
    tmp_path: Path, content: object, read: object, name: str
) -> None:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(content))
    task = read(path)  # type: ignore[operator]
    assert isinstance(task, QuestionAnswering) and task.name == name
    sample = sample_of(task, 3, 200)
    assert (
        sample.answers[0] in sample.context
        and 150 < count_tokens(sample.context + sample.question + sample.answer_prefix) <= 200
    )
    assert task.score(f"It is {sample.answers[0]}.", sample) == 1 and task.score("no", sample) == 0


@pytest.mark.parametrize(
    "content, message",
    [
        (b"{", "is not JSON"),
        (b"[1]", "is not a SQuAD file"),
        (b'{"data": []}', "has no question"),
        (b'{"data": [{}]}', "'paragraphs' in paragraph 0"),
    ],
)
def test_unusable_question_files_get_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(KVError, match=message):
        read_squad(path)


def test_sentences_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("One is here. Two\nis there!\n\nThree")
    assert read_sentences(path) == ("One is here.", "Two is there!", "Three")
    path.write_text(" \n")
    with pytest.raises(KVError, match="has no sentences"):
        read_sentences(path)
    with pytest.raises(KVError, match="cannot be read"):
        read_sentences(tmp_path / "absent")


def test_an_unknown_task_is_refused_with_the_choices() -> None:
    assert task_named("passkey").name == "passkey" and len({task.name for task in TASKS}) == len(TASKS) == 15
    with pytest.raises(KVError, match="choose one of passkey, passkey_spaces, needle"):
        task_named("nothing")


@given(seed=st.integers(0, 999), shift=st.floats(-1e3, 1e3))
def test_kl_is_zero_for_equal_distributions_and_never_negative(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    dense, pruned = rng.standard_normal((2, 3, 7)) * 5
    np.testing.assert_allclose(kl_divergence(dense, dense + shift), 0, atol=1e-12)
    assert (kl_divergence(dense, pruned) > 0).all()
    p, q = np.exp(log_softmax(dense)), np.exp(log_softmax(pruned))
    np.testing.assert_allclose(kl_divergence(dense, pruned), (p * np.log(p / q)).sum(-1))


def test_perplexity_of_a_uniform_guess_is_the_vocabulary_and_of_certainty_one() -> None:
    targets = np.array([1, 4, 2])
    assert perplexity(np.zeros((3, 7)), targets) == pytest.approx(7)
    assert perplexity(1000 * np.eye(7)[targets], targets) == pytest.approx(1)
    for logits, wanted in ((np.zeros((2, 7)), targets), (np.zeros((0, 7)), targets[:0])):
        with pytest.raises(KVError, match="do not predict"):
            perplexity(logits, wanted)
    with pytest.raises(KVError, match="cannot be compared"):
        kl_divergence(np.zeros(3), np.zeros(4))

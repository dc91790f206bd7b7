from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_model
from reference_model.errors import ModelError
from reference_model.generation import generate
from reference_model.train.corpus import Corpus, train_tokenizer
from reference_model.train.curve import draw_loss_curve
from reference_model.train.export import load_params
from reference_model.train.network import Batch, initial_params, loss_only
from reference_model.train.optimizer import AdamW, clip_gradients, learning_rate_at
from reference_model.train.recall import Recall
from reference_model.train.recipe import Phase, Recipe
from reference_model.train.run import train

SYLLABLES = [consonant + vowel for consonant in "bdklmnrst" for vowel in "aeiou"]
SMALL = Recipe(
    num_steps=4,
    vocab_size=512,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    batch_tokens=128,
    micro_tokens=64,
    warmup=2,
    phases=(Phase(0.5, 32, 0.5, 0.0), Phase(0.5, 64, 0.2, 0.5)),
)


@pytest.fixture(scope="module")
def text() -> str:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(SYLLABLES, 2)) for _ in range(60)]
    return " ".join(rng.choice(words, 8_000))


@pytest.fixture(scope="module")
def corpus(text: str) -> Corpus:
    return Corpus.of(text, train_tokenizer(text, 512), 64)


@pytest.fixture
def text_path(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(text)
    return path


def test_stopped_run_ends_with_the_same_bits_as_one_that_was_not(
    tmp_path: Path, text_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_model.train.run.SAVE_EVERY", 1)
    list(train(text_path, tmp_path / "whole", SMALL))
    stopped = train(text_path, tmp_path / "stopped", SMALL)
    next(stopped)
    next(stopped)
    stopped.close()
    resumed = list(train(text_path, tmp_path / "stopped", SMALL))
    assert [report.step for report in resumed] == [3, 4]
    for name in ("checkpoint.safetensors", "model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_trained_directory_loads_and_agrees_with_the_training_forward(tmp_path: Path, text_path: Path) -> None:
    list(train(text_path, tmp_path / "run", SMALL))
    model = reference_model.load(tmp_path / "run")
    params = load_params(tmp_path / "run" / "model.safetensors", initial_params(model.config, 0))
    ids = model.tokenizer.encode("babe dodu kike")
    logits = model.forward(ids[:-1]).astype(np.float64)
    ours = (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), ids[1:]]).sum()
    batch = Batch(np.array([ids[:-1]]), np.array([ids[1:]]), np.ones((1, len(logits)), np.float32))
    assert ours == pytest.approx(loss_only(params, model.config, batch), rel=1e-5)
    assert len(list(generate(model, ids, 5))) <= 5


def test_run_can_start_from_another_runs_model(tmp_path: Path, text_path: Path) -> None:
    list(train(text_path, tmp_path / "first", SMALL))
    frozen = dataclasses.replace(SMALL, peak_learning_rate=0.0)
    list(train(text_path, tmp_path / "second", frozen, start=tmp_path / "first"))
    assert (tmp_path / "first/model.safetensors").read_bytes() == (tmp_path / "second/model.safetensors").read_bytes()


def test_directory_of_another_run_is_refused(tmp_path: Path, text_path: Path) -> None:
    next(train(text_path, tmp_path / "run", SMALL))
    with pytest.raises(ModelError, match=r"another recipe \(seed 1\)"):
        next(train(text_path, tmp_path / "run", dataclasses.replace(SMALL, seed=2)))


def test_damaged_checkpoint_is_refused_in_one_sentence(tmp_path: Path, text_path: Path) -> None:
    list(train(text_path, tmp_path / "run", SMALL))
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(ModelError, match="delete it to start again"):
        next(train(text_path, tmp_path / "run", SMALL))


def test_short_text_is_refused_with_both_counts(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("too short")
    with pytest.raises(ModelError, match="use a longer text"):
        next(train(path, tmp_path / "run", SMALL))


def test_binary_file_is_refused_as_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="UTF-8"):
        next(train(path, tmp_path / "run", SMALL))


def test_loss_curve_is_a_picture(tmp_path: Path, text_path: Path) -> None:
    list(train(text_path, tmp_path / "run", SMALL))
    draw_loss_curve(tmp_path / "run" / "log.jsonl", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@given(seed=st.integers(0, 2**32), length=st.integers(8, 200))
def test_every_answer_of_dense_recall_was_given_before_after_the_same_key(
    corpus: Corpus, seed: int, length: int
) -> None:
    check_answers(corpus.recall, *corpus.recall.dense(np.random.default_rng(seed), length)[::2])


@given(seed=st.integers(0, 2**32), count=st.integers(1, 9))
def test_every_answer_of_planted_recall_was_given_before_after_the_same_key(
    corpus: Corpus, seed: int, count: int
) -> None:
    exercise = corpus.recall.planted(np.random.default_rng(seed), corpus.validation[:100], count)
    assert len(exercise.tokens) == 100 + 8 * count and len(exercise.answers) == count
    check_answers(corpus.recall, exercise.tokens, exercise.answers)


def check_answers(recall: Recall, tokens: np.ndarray, answers: np.ndarray) -> None:
    for place in answers:
        record = tokens[place - 2 : place + 1]
        windows = np.lib.stride_tricks.sliding_window_view(tokens[: place - 2], 3)
        assert record[0] == recall.opening and (windows == record).all(1).any()


@given(seed=st.integers(0, 2**32), distance=st.integers(4, 150), count=st.integers(1, 8))
def test_question_asks_for_a_value_exactly_that_far_back(corpus: Corpus, seed: int, distance: int, count: int) -> None:
    tokens, value = corpus.recall.question(np.random.default_rng(seed), corpus.validation, 200, distance, count)
    assert len(tokens) == 200 and tokens[200 - distance] == value
    assert tokens[200 - distance - 2 : 200 - distance].tolist() == tokens[-2:].tolist()


def test_question_that_does_not_fit_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ModelError, match="use a longer prompt"):
        corpus.recall.question(np.random.default_rng(0), corpus.validation, 50, 45)


def test_batches_depend_on_seed_and_step_alone(corpus: Corpus) -> None:
    first, again, other = corpus.batch(SMALL, 3), corpus.batch(SMALL, 3), corpus.batch(SMALL, 2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.tokens, other.tokens)


def test_learning_rate_rises_to_its_peak_and_falls_to_its_floor() -> None:
    rates = [learning_rate_at(step, 100, 1.0, 10) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert np.argmax(rates) == 9 and rates[-1] == pytest.approx(0.05) and np.all(np.diff(rates[10:]) < 0)


def test_adamw_first_step_moves_by_the_learning_rate_against_the_gradient() -> None:
    """With zero moments the corrected ratio is grad / |grad| (arXiv:1412.6980, section 2.1); decay comes on top, for
    matrices."""
    params = {"matrix": np.ones((1, 2)), "gain": np.ones(2)}
    grads = {"matrix": np.array([[3.0, -0.5]]), "gain": np.array([2.0, -7.0])}
    zeros = [{name: np.zeros_like(value) for name, value in params.items()} for _ in range(2)]
    AdamW(weight_decay=0.5).update(params, grads, *zeros, learning_rate=0.1, step=1)
    np.testing.assert_allclose(params["matrix"], [[0.95 - 0.1, 0.95 + 0.1]], atol=1e-8)
    np.testing.assert_allclose(params["gain"], [0.9, 1.1], atol=1e-8)


def test_clipping_bounds_the_joint_norm_and_leaves_small_gradients() -> None:
    grads = {"a": np.array([3.0]), "b": np.array([4.0])}
    assert clip_gradients(grads, 1.0) == 5.0
    assert grads["a"] == pytest.approx(0.6) and grads["b"] == pytest.approx(0.8)
    assert clip_gradients(grads, 2.0) == pytest.approx(1.0) and grads["a"] == pytest.approx(0.6)

"""What the model card claims, on a passage that was held out of training.

The passage is data/held_out.txt (King James Version, public domain)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reference_model
from reference_model import Model
from reference_model.generation import generate
from reference_model.loading import BUILTIN
from reference_model.train.evaluate import recall_at

MAX_BYTES = 4_000_000


@pytest.fixture(scope="module")
def model() -> Model:
    return reference_model.load("builtin")


@pytest.fixture(scope="module")
def held_out(model: Model) -> np.ndarray:
    text = (Path(__file__).parent / "data" / "held_out.txt").read_text(encoding="utf-8")
    return np.array(model.tokenizer.encode(text))


@pytest.mark.slow
@pytest.mark.parametrize("distance", [16, 300, 900])
def test_builtin_recalls_nine_of_ten_planted_values(model: Model, held_out: np.ndarray, distance: int) -> None:
    assert recall_at(model, held_out, distance, model.config.context_length, trials=20) >= 0.9


def test_builtin_forgets_what_is_cut_from_its_cache(model: Model, held_out: np.ndarray) -> None:
    """Recall is done by looking back: without the record the value cannot be known."""
    prompt = held_out[:64]
    asked = model.tokenizer.encode(" [ king gold ]")
    with_record = [*asked, *prompt, *asked[:2]]
    assert model.forward(with_record)[-1].argmax() == asked[2]
    assert model.forward(with_record[len(asked) :])[-1].argmax() != asked[2]


def test_builtin_predicts_held_out_text_far_better_than_single_words_would(model: Model, held_out: np.ndarray) -> None:
    """Nats a token; the entropy of this passage's tokens taken one by one is above 5."""
    logits = model.forward(held_out[:1024]).astype(np.float64)[:-1]
    targets = held_out[1:1024]
    loss = (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(targets)), targets]).mean()
    counts = np.bincount(targets)
    shares = counts[counts > 0] / len(targets)
    assert loss < 2.9 and -(shares * np.log(shares)).sum() > 5


def test_builtin_continues_a_prompt_in_words_of_its_source(model: Model) -> None:
    text = model.tokenizer.decode(list(generate(model, model.tokenizer.encode("And it came to pass"), 24)))
    assert text.isascii() and "[" not in text and sum(word.isalpha() for word in text.replace(",", "").split()) >= 12


def test_builtin_fits_in_four_megabytes() -> None:
    assert sum(path.stat().st_size for path in BUILTIN.iterdir()) <= MAX_BYTES

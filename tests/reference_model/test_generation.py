from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from tokenizers.decoders import ByteLevel

import reference_model
from reference_model import Model, ModelError
from reference_model.chat import CHATML, GEMMA, SMOLLM2, chat_style
from reference_model.generation import Sampling, generate, stream_text
from reference_model.tokenizer import Tokenizer

PROMPT = [5, 9, 33, 2]


@pytest.fixture(scope="module")
def model() -> Model:
    return reference_model.load(Path(__file__).parent / "data" / "tiny_llama")


def test_greedy_takes_the_likeliest_token_of_the_whole_sequence_each_time(model: Model) -> None:
    ids = list(PROMPT)
    for token in generate(model, PROMPT, 12):
        assert token == model.forward(ids)[-1].argmax()
        ids.append(token)
    assert len(ids) == len(PROMPT) + 12


def test_same_seed_gives_the_same_tokens_and_another_seed_others(model: Model) -> None:
    runs = [list(generate(model, PROMPT, 30, Sampling(temperature=2.0, seed=seed))) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_generation_stops_before_an_end_token(model: Model) -> None:
    hot = Sampling(temperature=3.0)
    tokens = list(generate(model, PROMPT, 20, hot))
    place = next(index for index, token in enumerate(tokens) if token not in tokens[:index] and index > 2)
    stopping = Model(model.config, model.weights, Tokenizer(model.tokenizer.backend, eos=(tokens[place],)))
    assert list(generate(stopping, PROMPT, 20, hot)) == tokens[:place]


def test_generation_stops_at_the_end_of_the_context(model: Model) -> None:
    """The last token's successor is known without room for itself: 64 positions hold the prompt and all but one of the
    new tokens."""
    assert len(list(generate(model, PROMPT, 1000))) == 64 - len(PROMPT) + 1


logits_lists = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=30, unique=True)


@given(logits_lists, st.integers(1, 30), st.integers(0, 99))
def test_top_k_draws_only_from_the_k_likeliest(values: list[float], top_k: int, seed: int) -> None:
    logits = np.array(values, np.float32)
    choice = Sampling(temperature=5.0, top_k=top_k).choose(logits, np.random.default_rng(seed))
    assert (logits > logits[choice]).sum() < top_k


@given(logits_lists, st.floats(0.01, 1), st.integers(0, 99))
def test_top_p_never_draws_a_token_when_likelier_ones_reach_p_already(
    values: list[float], top_p: float, seed: int
) -> None:
    logits = np.array(values, np.float32)
    choice = Sampling(temperature=1.0, top_p=top_p).choose(logits, np.random.default_rng(seed))
    probabilities = np.exp(logits.astype(np.float64) - logits.max())
    probabilities /= probabilities.sum()
    assert probabilities[logits > logits[choice]].sum() < top_p + 1e-9


def test_temperature_one_draws_by_the_softmax() -> None:
    logits, rng = np.log(np.array([0.5, 0.3, 0.2], np.float32)), np.random.default_rng(0)
    counts = np.bincount([Sampling(temperature=1.0).choose(logits, rng) for _ in range(4000)], minlength=3)
    np.testing.assert_allclose(counts / 4000, [0.5, 0.3, 0.2], atol=0.03)


@pytest.mark.parametrize(
    "bad", [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1}]
)
def test_sampling_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="use a temperature of 0 or more"):
        Sampling(**bad)  # type: ignore[arg-type]


@pytest.mark.slow
@given(st.text())
def test_streamed_text_is_whole_characters_that_add_up_to_the_text(text: str) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevel()
    tokenizer = Tokenizer(backend)
    pieces = list(stream_text(tokenizer, tokenizer.encode(text)))
    assert "".join(pieces) == text or "\ufffd" in text


def test_chat_is_written_as_the_models_templates_write_it() -> None:
    """What transformers 5.23 renders from the templates in the files of SmolLM2-135M-Instruct, and from Gemma 3's."""
    asked = [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")]
    said = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    said += "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    assert CHATML.render(asked) == said
    assert SMOLLM2.render(asked) == f"<|im_start|>system\n{SMOLLM2.default_system}<|im_end|>\n{said}"
    assert SMOLLM2.render([("system", "Be brief"), *asked]) == f"<|im_start|>system\nBe brief<|im_end|>\n{said}"
    assert GEMMA.render([("system", "Be brief"), ("user", "Hi")]) == (
        "<start_of_turn>user\nBe brief\n\nHi<end_of_turn>\n<start_of_turn>model\n"
    )


def test_chat_style_needs_its_marks_in_template_and_vocabulary() -> None:
    template = "{{ '<|im_start|>' + role }} {{ '<|im_end|>' }}"
    assert chat_style(template, ["<|im_start|>", "<|im_end|>"]) is CHATML
    assert chat_style(template, ["<|im_start|>"]) is None
    assert chat_style("", ["<|im_start|>", "<|im_end|>"]) is None

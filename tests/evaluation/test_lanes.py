"""Policies side by side on one prompt.

Each lane answers as a store of its own would, and is compared with the dense run."""

from __future__ import annotations

import numpy as np
import pytest

import reference_model
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.metrics import kl_divergence
from kv.policies import POLICIES, policy_named
from kv.policies.base import Policy
from kv.sequence.paged_kv import PagedKV
from npusim.evaluation import lanes as lanes_module
from npusim.evaluation.lanes import CHUNK, LaneKey, Lanes, LaneSettings
from npusim.evaluation.prompts import Frame, Prompt, draw_sample
from npusim.evaluation.tasks import task_from
from reference_model.model import Model

PRUNING = [policy for policy in POLICIES if policy.name != "full"]


@pytest.fixture(scope="module")
def model() -> Model:
    return reference_model.load("builtin")


@pytest.fixture(scope="module")
def prompt(model: Model) -> Prompt:
    task = task_from("recall", model.tokenizer)
    return Frame().prompt(model.tokenizer, draw_sample(model.tokenizer, task, Frame(), num_tokens=400, number=0))


def alone(
    model: Model, prompt: Prompt, policy: Policy, budget: int, num_tokens: int
) -> tuple[list[int], np.ndarray, PagedKV]:
    """Greedy tokens and the logits after the question of a run with one store."""
    c = model.config
    store = PagedKV(
        PagedCache(Geometry(c.num_layers, c.num_heads, c.num_kv_heads, c.head_dim), 64), "alone", policy, budget
    )
    for start in range(0, len(prompt.context), CHUNK):
        model.hidden(prompt.context[start : start + CHUNK], store)
    store.learn()
    rows = [model.forward([token], store)[0] for token in prompt.question]
    tokens = [int(rows[-1].argmax())]
    while len(tokens) < num_tokens:
        tokens.append(int(model.forward([tokens[-1]], store)[0].argmax()))
    return tokens, np.stack(rows), store


@pytest.mark.slow
def test_every_lane_does_what_its_policy_does_alone(
    model: Model, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes_module, "LANES_AT_ONCE", 5)
    lanes = Lanes(model, prompt, LaneSettings(max_new_tokens=3)).run([LaneKey(policy, 64) for policy in PRUNING])
    dense = alone(model, prompt, policy_named("full"), 64, 3)
    for policy, lane in zip([*PRUNING, policy_named("full")], lanes, strict=True):
        tokens, logits, store = alone(model, prompt, policy, 64, 3)
        assert lane.answer == tokens, policy.name
        assert lane.kl == pytest.approx(kl_divergence(dense[1], logits).tolist(), rel=1e-2, abs=1e-4), policy.name
        assert lane.activity.sparse_steps == store.activity.sparse_steps
        assert len(lane.traffic) == 3
    assert lanes[-1].kl == pytest.approx([0] * len(prompt.question), abs=1e-12)
    assert all(lanes[-1].activity.sparse_steps == 0 < lane.activity.sparse_steps for lane in lanes[:-1])


def test_a_lane_that_is_decided_stops_and_the_others_go_on(model: Model, prompt: Prompt) -> None:
    keys = [LaneKey(policy_named("streaming_llm"), 32)]
    first = Lanes(model, prompt, LaneSettings(max_new_tokens=1)).run(keys)[0].text
    decided = LaneSettings(max_new_tokens=5, is_decided=lambda text: text == first)
    lanes = Lanes(model, prompt, decided).run(keys)
    assert [len(lane.answer) for lane in lanes] == [1, 5]


def test_a_small_device_has_a_window_stay_and_quest_move_pages(model: Model, prompt: Prompt) -> None:
    keys = [LaneKey(policy_named(name), 64) for name in ("streaming_llm", "quest")]
    window, quest, dense = Lanes(model, prompt, LaneSettings(max_new_tokens=3, device_tokens=128)).run(keys)
    page = 2 * 16 * model.config.head_dim * 4
    assert window.moved[-1] == 0 < quest.moved[-1] < dense.moved[-1] and quest.moved[-1] % page == 0
    everything = Lanes(model, prompt, LaneSettings(max_new_tokens=3)).run(keys)
    assert all(lane.moved == [0, 0, 0] for lane in everything)


def test_progress_rises_to_the_whole(model: Model, prompt: Prompt) -> None:
    seen: list[float] = []
    Lanes(model, prompt, LaneSettings(max_new_tokens=2)).run([], seen.append)
    assert seen == sorted(seen) and seen[-1] == 1 and 0 < seen[0] < 1


def test_a_question_without_an_answer_gives_the_probability_of_its_tokens(model: Model, prompt: Prompt) -> None:
    (lane,) = Lanes(model, prompt, LaneSettings(max_new_tokens=0)).run([])
    logits = model.forward(prompt.context + prompt.question)[len(prompt.context) :].astype(np.float64)
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    expected = [log_probs[i, token] for i, token in enumerate(prompt.question[1:])]
    assert lane.log_probs == pytest.approx(expected, abs=1e-4) and lane.answer == []


def test_one_step_of_several_sequences_is_a_step_of_each(model: Model) -> None:
    texts = [model.tokenizer.encode(text) for text in ("And it came to pass", "In the beginning God created", "Go")]
    kvs, twins = ([model.new_kv(8) for _ in texts] for _ in range(2))
    for text, kv, twin in zip(texts, kvs, twins, strict=True):
        model.hidden(text, kv)
        model.hidden(text, twin)
    rows = model.step([5, 6, 7], kvs)
    for token, row, twin in zip((5, 6, 7), rows, twins, strict=True):
        np.testing.assert_allclose(row, model.forward([token], twin)[0], atol=1e-4)
    assert [kv.length for kv in kvs] == [len(text) + 1 for text in texts]
    with pytest.raises(reference_model.ModelError, match="one token for each"):
        model.step([1, 2], kvs)

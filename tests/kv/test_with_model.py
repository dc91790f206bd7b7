"""PagedKV under a real model: it is a KVStore of reference_model, and dense settings give the dense logits bit for
bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reference_model
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies import POLICIES, policy_named
from kv.policies.base import Policy
from kv.sequence.paged_kv import PagedKV
from reference_model.kv_store import KVStore
from reference_model.model import Model

TOKENS = np.random.default_rng(0).integers(3, 48, 40).tolist()


@pytest.fixture(scope="module", params=["tiny_llama", "tiny_gemma3"])
def model(request: pytest.FixtureRequest) -> Model:
    return reference_model.load(Path(__file__).parents[1] / "reference_model" / "data" / request.param)


def store_for(model: Model, policy: Policy, budget: int | None) -> PagedKV:
    c = model.config
    geometry = Geometry(c.num_layers, c.num_heads, c.num_kv_heads, c.head_dim, page_size=4)
    return PagedKV(PagedCache(geometry, 32), "text", policy, budget)


def logits(model: Model, kv: KVStore, prompt: int) -> np.ndarray:
    """Of a prefill and then token by token."""
    rows = [model.forward(TOKENS[:prompt], kv)[-1:]]
    rows += [model.forward([token], kv) for token in TOKENS[prompt:]]
    return np.concatenate(rows)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_budget_of_the_whole_text_gives_the_logits_of_the_dense_store_bitwise(model: Model, policy: Policy) -> None:
    if policy.dense_within_budget:
        np.testing.assert_array_equal(
            logits(model, store_for(model, policy, 64), 20), logits(model, model.new_kv(), 20)
        )


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_every_policy_serves_a_model_within_a_small_budget(model: Model, policy: Policy) -> None:
    store = store_for(model, policy, 8)
    pruned = logits(model, store, 20)
    assert np.isfinite(pruned).all() and store.length == len(TOKENS)
    assert (store.activity.sparse_steps > 0) == (policy.name != "full")


def test_quest_stays_nearer_to_the_dense_logits_than_chance(model: Model) -> None:
    dense = logits(model, model.new_kv(), 20)
    errors = {
        name: np.abs(logits(model, store_for(model, policy_named(name), 12), 20) - dense).mean()
        for name in ("quest", "random")
    }
    assert errors["quest"] < errors["random"]

"""Logits recorded from transformers, and laws that need no oracle.

They were recorded from transformers 5.23 in float32 (models of random bfloat16 weights in data/)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_model
from reference_model import Model, ModelError, attention
from reference_model.attention import attend
from reference_model.kv_store import ContiguousKV, FloatArray, Selection

DATA = Path(__file__).parent / "data"
NAMES = ["tiny_llama", "tiny_gemma3"]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> Model:
    return reference_model.load(DATA / name)


@pytest.fixture(scope="module")
def recorded(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(DATA / name / "logits.npz", allow_pickle=False))


def test_logits_equal_those_of_transformers(model: Model, recorded: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(model.forward(recorded["ids"]), recorded["logits"], atol=2e-5)


@pytest.mark.parametrize("chunks", [[1] * 24, [7, 1, 1, 15], [23, 1]])
def test_decoding_in_chunks_gives_the_logits_of_one_prefill(
    model: Model, recorded: dict[str, np.ndarray], chunks: list[int]
) -> None:
    kv = model.new_kv(1)
    parts = [model.forward(part, kv) for part in np.split(recorded["ids"], np.cumsum(chunks)[:-1])]
    np.testing.assert_allclose(np.concatenate(parts), recorded["logits"], atol=2e-5)


def test_truncated_cache_continues_as_if_the_rest_had_never_been(model: Model, recorded: dict[str, np.ndarray]) -> None:
    kv = model.new_kv()
    model.forward(recorded["ids"][::-1].copy(), kv)
    kv.truncate(0)
    np.testing.assert_allclose(model.forward(recorded["ids"], kv), recorded["logits"], atol=2e-5)


def test_small_blocks_of_tokens_change_nothing(
    model: Model, recorded: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", 5)
    monkeypatch.setattr("reference_model.model.MLP_BLOCK", 5)
    np.testing.assert_allclose(model.forward(recorded["ids"]), recorded["logits"], atol=2e-5)


class PaddedAndShuffled(ContiguousKV):
    """Gives each KV head its slots in another order, and rubbish after them: only positions and valid tell what is
    what."""

    wants_weights = True

    def __init__(self, model: Model) -> None:
        config = model.config
        super().__init__(config.num_layers, config.num_kv_heads, config.head_dim)
        self.seen: list[FloatArray] = []

    def select(self, layer: int, q: FloatArray) -> Selection:
        dense = super().select(layer, q)
        heads, slots, dim = dense.k.shape
        order = np.stack([np.random.default_rng(head).permutation(slots) for head in range(heads)])
        padding = np.full((heads, 3, dim), 9.0, np.float32)
        k, v = (np.concatenate([np.take_along_axis(a, order[..., None], 1), padding], 1) for a in (dense.k, dense.v))
        valid = np.broadcast_to(np.arange(slots + 3) < slots, (heads, slots + 3))
        return Selection(k, v, np.pad(order, ((0, 0), (0, 3))), valid)

    def observe(self, layer: int, weights: FloatArray) -> None:
        self.seen.append(weights)


def test_padded_slots_of_each_head_in_any_order_give_the_same_logits(
    model: Model, recorded: dict[str, np.ndarray]
) -> None:
    store = PaddedAndShuffled(model)
    np.testing.assert_allclose(model.forward(recorded["ids"], store), recorded["logits"], atol=2e-5)
    length = len(recorded["ids"])
    assert [seen.shape for seen in store.seen] == [
        (model.config.num_heads, length, length + 3)
    ] * model.config.num_layers
    for seen in store.seen:
        np.testing.assert_allclose(seen.sum(-1), 1, rtol=1e-5)
        assert not seen[..., length:].any()


@given(seed=st.integers(0, 999), length=st.integers(1, 30), window=st.integers(0, 12), queries=st.integers(1, 9))
def test_attention_equals_softmax_written_out_for_each_query(seed: int, length: int, window: int, queries: int) -> None:
    rng = np.random.default_rng(seed)
    queries = min(queries, length)
    q = rng.standard_normal((queries, 4, 6)).astype(np.float32)
    k, v = rng.standard_normal((2, 2, length, 6)).astype(np.float32)
    positions = np.arange(length - queries, length)
    out, weights = attend(q, positions, Selection(k, v, np.arange(length)), window, keep_weights=True)
    assert weights is not None
    for token in range(queries):
        first = max(positions[token] - window + 1, 0) if window else 0
        seen = slice(first, positions[token] + 1)
        for head in range(4):
            e = np.exp(k[head // 2, seen].astype(np.float64) @ q[token, head])
            np.testing.assert_allclose(weights[head, token, seen], e / e.sum(), atol=1e-5)
            np.testing.assert_allclose(out[token, head], e / e.sum() @ v[head // 2, seen], atol=1e-5)
            assert weights[head, token].sum() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("ids", [[], [[1]], [48], [-1], [1.5]])
def test_ids_that_are_no_list_of_tokens_are_refused(model: Model, ids: list[int]) -> None:
    with pytest.raises(ModelError, match="token id"):
        model.forward(ids)


def test_more_tokens_than_the_context_are_refused(model: Model) -> None:
    kv = model.new_kv()
    model.forward([1] * 60, kv)
    with pytest.raises(ModelError, match="65 tokens do not fit in this model's context of 64"):
        model.forward([1] * 5, kv)
    assert kv.length == 60


@pytest.mark.slow
def test_smollm2_gives_the_tokens_and_logits_of_transformers() -> None:
    try:
        model = reference_model.load("smollm2")
    except ModelError as error:
        pytest.skip(str(error))
    recorded = np.load(DATA / "smollm2.npz", allow_pickle=False)
    assert model.tokenizer.encode(str(recorded["text"])) == recorded["ids"].tolist()
    assert model.tokenizer.chat is not None and model.tokenizer.chat.render([("user", "Hi")]) == str(recorded["chat"])
    logits = model.forward(recorded["ids"])
    np.testing.assert_allclose(logits[:, recorded["sample"]], recorded["logits"], atol=1e-3)
    np.testing.assert_array_equal(logits.argmax(-1), recorded["choices"])

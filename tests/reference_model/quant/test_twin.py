"""Laws of the quantised twin that need no oracle, and how close it is to the float model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reference_model
from reference_model import Model, ModelError
from reference_model.kv_store import ContiguousKV, FloatArray, Selection
from reference_model.quant.calibrate import calibrate
from reference_model.quant.quantise import quantise
from reference_model.quant.twin import TwinModel

DATA = Path(__file__).parents[1] / "data"
NAMES = ["tiny_llama", "tiny_gemma3"]


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    return reference_model.load(DATA / request.param)


IDS = np.random.default_rng(3).integers(0, 48, 41)


@pytest.fixture(scope="module", params=["bf16", "int8", "w8a8"])
def twin(model: Model, request: pytest.FixtureRequest) -> TwinModel:
    return quantise(model, request.param, calibrate(quantise(model, "bf16"), IDS))


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [[1] * 41, [7, 1, 1, 32], [40, 1]])
def test_chunks_of_any_size_give_the_same_bits(twin: TwinModel, chunks: list[int]) -> None:
    kv = twin.new_kv(1)
    parts = [twin.forward(part, kv) for part in np.split(IDS, np.cumsum(chunks)[:-1])]
    np.testing.assert_array_equal(np.concatenate(parts), twin.forward(IDS))


def test_a_trained_model_decodes_to_the_bits_of_its_prefill() -> None:
    model = reference_model.load("builtin")
    ids = model.tokenizer.encode("And it came to pass, when king Hezekiah heard it, that he rent his clothes")
    twin = quantise(model, "int8")
    kv = twin.new_kv()
    parts = [twin.forward(ids[:9], kv), *(twin.forward([token], kv) for token in ids[9:])]
    np.testing.assert_array_equal(np.concatenate(parts), twin.forward(ids))


def test_internal_chunks_change_nothing(twin: TwinModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = twin.forward(IDS)
    monkeypatch.setattr("reference_model.quant.twin.CHUNK", 5)
    np.testing.assert_array_equal(twin.forward(IDS), whole)


class PagesWithPadding(ContiguousKV):
    """Gives whole pages, the last one padded with rubbish, and a page of rubbish before the last: only `valid`
    tells."""

    def select(self, layer: int, q: FloatArray) -> Selection:
        dense = super().select(layer, q)
        length = dense.k.shape[1]
        last = (length - 1) // 16 * 16
        positions = np.concatenate([np.arange(last), np.zeros(16, int), np.arange(last, last + 16)])
        valid = np.concatenate([np.ones(last, bool), np.zeros(16, bool), np.arange(last, last + 16) < length])
        k, v = (np.full((side.shape[0], len(positions), side.shape[2]), 3.0, np.float32) for side in (dense.k, dense.v))
        for whole, side in ((k, dense.k), (v, dense.v)):
            whole[:, valid] = side
        return Selection(k, v, positions, valid)


def test_padding_inside_a_selection_of_pages_changes_no_bit(twin: TwinModel) -> None:
    config = twin.config
    kv = PagesWithPadding(config.num_layers, config.num_kv_heads, config.head_dim)
    np.testing.assert_array_equal(twin.forward(IDS, kv), twin.forward(IDS))


class Watching(ContiguousKV):
    wants_weights = True

    def observe(self, layer: int, weights: FloatArray) -> None:
        self.seen = weights


def test_observed_weights_are_a_softmax_over_what_each_query_sees(twin: TwinModel) -> None:
    config = twin.config
    kv = Watching(config.num_layers, config.num_kv_heads, config.head_dim)
    twin.forward(IDS, kv)
    assert kv.seen.shape == (config.num_heads, len(IDS), len(IDS))
    assert not kv.seen[:, np.triu_indices(len(IDS), 1)[0], np.triu_indices(len(IDS), 1)[1]].any()
    np.testing.assert_allclose(kv.seen.sum(-1), 1, atol=0.02)


def test_logits_stay_near_the_float_model(model: Model, twin: TwinModel) -> None:
    exact, near = model.forward(IDS), twin.forward(IDS)
    error = np.linalg.norm(near - exact) / np.linalg.norm(exact)
    assert 0 < error < (0.05 if twin.precision != "w8a8" else 0.1)


def test_a_prompt_beyond_the_context_is_refused(twin: TwinModel) -> None:
    with pytest.raises(ModelError, match="context"):
        twin.forward(np.zeros(twin.config.context_length + 1, int))


def test_an_unknown_precision_is_refused(model: Model) -> None:
    with pytest.raises(ModelError, match="bf16, int8, w8a8"):
        quantise(model, "fp4")
    with pytest.raises(ModelError, match="calibrate"):
        quantise(model, "w8a8")

"""The bundled model on 512 tokens that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reference_model
from reference_model import Model, ModelError
from reference_model.quant import ops
from reference_model.quant.arith import floats
from reference_model.quant.calibrate import calibrate
from reference_model.quant.fidelity import Fidelity, measure, sqnr
from reference_model.quant.quantise import quantise

TEXT = (Path(__file__).parents[1] / "data" / "held_out.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model() -> Model:
    return reference_model.load("builtin")


@pytest.fixture(scope="module")
def ids(model: Model) -> np.ndarray:
    return np.array(model.tokenizer.encode(TEXT))


@pytest.fixture(scope="module")
def results(model: Model, ids: np.ndarray) -> dict[str, Fidelity]:
    ranges = calibrate(quantise(model, "bf16"), ids[513:1537])
    twins = [quantise(model, "bf16"), quantise(model, "int8"), quantise(model, "w8a8", ranges)]
    return {result.precision: result for result in measure(model, twins, ids[:513])}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "percent"), [("bf16", 0.5), ("int8", 3.0), ("w8a8", 2.0)])
def test_perplexity_rises_by_less_than_its_bound(results: dict[str, Fidelity], precision: str, percent: float) -> None:
    result = results[precision]
    assert result.num_tokens == 512
    assert abs(result.loss_percent) < percent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "entire", "single", "agreement"),
    [("bf16", 34, 40, 0.97), ("int8", 31, 36, 0.96), ("w8a8", 24, 30, 0.94)],
)
def test_noise_of_every_layer_stays_below_its_bound(
    results: dict[str, Fidelity], precision: str, entire: float, single: float, agreement: float
) -> None:
    result = results[precision]
    assert len(result.layers) == 4
    assert min(noise.entire for noise in result.layers) > entire
    assert min(noise.single for noise in result.layers) > single
    assert result.argmax_agreement > agreement


@pytest.mark.slow
def test_coarser_precisions_are_noisier(results: dict[str, Fidelity]) -> None:
    kl = [results[name].kl for name in ("bf16", "int8", "w8a8")]
    assert 0 < kl[0] < kl[1] < kl[2]
    layers = zip(*(results[name].layers for name in ("bf16", "int8", "w8a8")), strict=True)
    assert all(a.single > b.single > c.single for a, b, c in layers)


@pytest.mark.slow
def test_first_layer_adds_up_to_its_own_noise(results: dict[str, Fidelity]) -> None:
    """With one embedding in both, the streams differ by the rounding of the embedding and by what the layer does."""
    first = results["bf16"].layers[0]
    assert abs(first.entire - first.single) < 0.5


@pytest.mark.slow
def test_a_text_longer_than_the_context_is_read_in_windows(model: Model, ids: np.ndarray) -> None:
    whole = measure(model, [quantise(model, "bf16")], ids[:1200])[0]
    assert whole.num_tokens == 1199
    assert abs(whole.loss_percent) < 0.5


@pytest.mark.slow
def test_float_perplexity_is_that_of_the_float_model(
    model: Model, ids: np.ndarray, results: dict[str, Fidelity]
) -> None:
    logits = model.forward(ids[:512]).astype(np.float64)
    log_sum = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    expected = np.exp((log_sum - logits[np.arange(512), ids[1:513]]).mean())
    assert results["bf16"].float_perplexity == pytest.approx(expected, rel=1e-5)


def test_sqnr_of_known_noise() -> None:
    exact = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(sqnr(exact, exact + np.array([[0.5, 0], [0, 0], [0, 0]], np.float32)), [20, 150, 150])


def test_calibration_takes_the_largest_of_each_input_and_output(model: Model, ids: np.ndarray) -> None:
    twin = quantise(model, "bf16")
    first, more = calibrate(twin, ids[:100]), calibrate(twin, ids[:200])
    assert set(more) == {f"{layer}.{name}" for layer in range(4) for name in ("qkv", "output", "gate_up")}
    for name, seen in more.items():
        assert (seen.largest_in >= first[name].largest_in).all()
        assert (seen.largest_out >= first[name].largest_out).all()
    normalised = ops.rms_norm(twin.embed(ids[:200]), *twin.layers[0].attention_norm)
    np.testing.assert_array_equal(more["0.qkv"].largest_in, np.abs(floats(normalised)).max(0))
    np.testing.assert_array_equal(
        more["0.qkv"].largest_out, np.abs(floats(twin.layers[0].qkv.product(normalised))).max(0)
    )


def test_what_cannot_be_measured_or_smoothed_is_refused(model: Model) -> None:
    with pytest.raises(ModelError, match="at least 2"):
        measure(model, [quantise(model, "bf16")], np.array([1]))
    with pytest.raises(ModelError, match="from 0 to 1"):
        quantise(model, "w8a8", {}, -1)

"""How far a quantised twin is from its float32 model on a text: perplexity, choices, and noise layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reference_model.errors import ModelError
from reference_model.kv_store import FloatArray, IntArray
from reference_model.model import Model
from reference_model.quant.streams import SingleLayers, WholeModel
from reference_model.quant.twin import CHUNK, TwinModel

F64 = NDArray[np.float64]
QUIETEST = 1e-15
"""The least noise-to-signal ratio: equal numbers count as 150 dB."""


@dataclass(frozen=True)
class LayerNoise:
    """Signal-to-quantisation-noise ratio of the residual stream after a layer, in dB, averaged over tokens.

    entire   the twin's stream against the float model's: what all layers so far have added up to
    single   this layer of the twin on the float model's stream: its own noise"""

    layer: int
    entire: float
    single: float


@dataclass(frozen=True)
class Fidelity:
    """How far a twin is from its float model.

    perplexities      exp of the mean negative log-likelihood of the text's tokens
    kl                float model against twin, nats per token
    argmax_agreement  share of positions at which both find the same token likeliest
    logits_sqnr       dB, averaged over tokens"""

    precision: str
    num_tokens: int
    float_perplexity: float
    perplexity: float
    kl: float
    argmax_agreement: float
    logits_sqnr: float
    layers: tuple[LayerNoise, ...]

    @property
    def loss_percent(self) -> float:
        """How much higher the twin's perplexity is."""
        return 100 * (self.perplexity / self.float_perplexity - 1)


@dataclass
class _Sums:
    """Sums over tokens of what Fidelity averages."""

    num_layers: int
    tokens: int = 0
    float_loss: float = 0.0
    loss: float = 0.0
    kl: float = 0.0
    agreed: int = 0
    logits_db: float = 0.0
    entire: F64 = field(init=False)
    single: F64 = field(init=False)

    def __post_init__(self) -> None:
        self.entire, self.single = np.zeros(self.num_layers), np.zeros(self.num_layers)

    def add_logits(self, exact: FloatArray, log_p: FloatArray, near: FloatArray, following: IntArray) -> None:
        """Adds some tokens.

        Takes the logits [T, vocab] of both models, the log probabilities of the float model, and the tokens that
        came next."""
        rows = np.arange(len(following))
        log_q = _log_softmax(near)
        self.tokens += len(following)
        self.float_loss -= float(log_p[rows, following].sum(dtype=np.float64))
        self.loss -= float(log_q[rows, following].sum(dtype=np.float64))
        self.kl += float(np.einsum("tv,tv->t", np.exp(log_p), log_p - log_q).sum(dtype=np.float64))
        self.agreed += int((exact.argmax(-1) == near.argmax(-1)).sum())
        self.logits_db += float(sqnr(exact, near).sum())

    def result(self, precision: str) -> Fidelity:
        count = self.tokens
        noises = tuple(
            LayerNoise(index, float(entire / count), float(single / count))
            for index, (entire, single) in enumerate(zip(self.entire, self.single, strict=True))
        )
        return Fidelity(
            precision=precision,
            num_tokens=count,
            float_perplexity=float(np.exp(self.float_loss / count)),
            perplexity=float(np.exp(self.loss / count)),
            kl=self.kl / count,
            argmax_agreement=self.agreed / count,
            logits_sqnr=self.logits_db / count,
            layers=noises,
        )


def sqnr(exact: FloatArray, near: FloatArray) -> F64:
    """Signal-to-quantisation-noise ratio of each row, float32 [T, d] -> dB [T]."""
    noise, signal = (np.einsum("td,td->t", rows, rows).astype(np.float64) for rows in (near - exact, exact))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(signal > 0, noise / signal, np.where(noise > 0, 1.0, 0.0))
    return -10 * np.log10(np.maximum(ratio, QUIETEST))


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted


def measure(
    model: Model, twins: list[TwinModel], token_ids: IntArray, progress: Callable[[int], None] | None = None
) -> list[Fidelity]:
    """Compares each twin with `model` on a text of at least two tokens.

    The text is read in windows of the model's context. `progress` is told how many tokens were read, chunk by chunk.
    Memory stays at one chunk's logits, however long the text is."""
    ids = np.asarray(token_ids)
    if len(ids) < 2:
        raise ModelError(f"the text has {len(ids)} tokens: at least 2 are needed to predict one from another")
    sums = [_Sums(model.config.num_layers) for _ in twins]
    for window in _windows(ids, model.config.context_length):
        reference = WholeModel(model)
        readers = [(WholeModel(twin), SingleLayers(twin)) for twin in twins]
        for start in range(0, len(window) - 1, CHUNK):
            part = window[start : min(start + CHUNK, len(window) - 1)]
            exact_states, exact = reference.read(part)
            log_p = _log_softmax(exact)
            for (reader, singles), total in zip(readers, sums, strict=True):
                states, near = reader.read(part)
                total.add_logits(exact, log_p, near, window[start + 1 : start + 1 + len(part)])
                total.entire += [sqnr(a, b).sum() for a, b in zip(exact_states[1:], states[1:], strict=True)]
                total.single += [
                    sqnr(a, b).sum() for a, b in zip(exact_states[1:], singles.read(exact_states), strict=True)
                ]
            if progress is not None:
                progress(len(part))
    return [total.result(twin.precision) for total, twin in zip(sums, twins, strict=True)]


def _windows(ids: IntArray, length: int) -> Iterator[IntArray]:
    """Stretches of `length` tokens and the one that follows."""
    for start in range(0, len(ids) - 1, length):
        yield ids[start : start + length + 1]

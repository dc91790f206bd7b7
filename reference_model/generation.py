"""Continues a prompt: chooses tokens one at a time and gives them out as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers.decoders import DecodeStream

from reference_model.errors import ModelError
from reference_model.kv_store import FloatArray, KVStore
from reference_model.model import Model
from reference_model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Temperature 0 takes the likeliest token. Otherwise one is drawn from the top_k likeliest whose joint probability
    first reaches top_p. The draws depend on the seed alone."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < float("inf") and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise ModelError(
                f"temperature {self.temperature}, top_p {self.top_p}, top_k {self.top_k}: "
                "use a temperature of 0 or more, a top_p above 0 and up to 1, and a top_k of 0 (all tokens) or more"
            )
        if self.seed < 0:
            raise ModelError(f"seed {self.seed}: use 0 or more")

    def choose(self, logits: FloatArray, rng: np.random.Generator) -> int:
        """logits [vocab] -> a token id."""
        if self.temperature == 0:
            return int(logits.argmax())
        order = np.argsort(-logits, kind="stable")[: self.top_k or None]
        scaled = logits[order].astype(np.float64) / self.temperature
        probabilities = np.exp(scaled - scaled[0])
        probabilities /= probabilities.sum()
        before = np.cumsum(probabilities) - probabilities
        probabilities[before >= self.top_p] = 0
        return int(rng.choice(order, p=probabilities / probabilities.sum()))


GREEDY = Sampling()


def generate(
    model: Model, prompt: Sequence[int], max_tokens: int, sampling: Sampling = GREEDY, kv: KVStore | None = None
) -> Iterator[int]:
    """Token ids after the prompt: at most max_tokens.

    They end at an end-of-text token (not given out) or where the model's context is full. `kv` may hold what came
    before the prompt; it is appended to."""
    kv = model.new_kv(len(prompt) + max_tokens) if kv is None else kv
    rng = np.random.default_rng(sampling.seed)
    logits = model.head(model.hidden(prompt, kv)[-1:])[0]
    for produced in range(1, max_tokens + 1):
        token = sampling.choose(logits, rng)
        if token in model.tokenizer.eos:
            return
        yield token
        if produced == max_tokens or kv.length == model.config.context_length:
            return
        logits = model.forward([token], kv)[0]


def stream_text(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of each token, as soon as it is whole characters."""
    stream = DecodeStream(skip_special_tokens=True)
    for token in tokens:
        piece = stream.step(tokenizer.backend, token)
        if piece:
            yield piece

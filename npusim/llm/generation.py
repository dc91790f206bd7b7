"""Generates text on the simulated chip, and predicts how long it takes on the board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from npusim.errors import NpusimError
from npusim.llm.device import Device, SimulatedDevice
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.lowering import lower
from npusim.llm.pages import FloatArray
from npusim.llm.predict import Predictor, StepTime
from npusim.llm.session import Session
from npusim.llm.setup import Setup, Submit
from reference_model.generation import GREEDY, Sampling
from reference_model.model import Model
from reference_model.quant.quantise import quantise
from reference_model.quant.twin import TwinModel


@dataclass
class Generation:
    """A model on a board. While it generates, `tokens` and `logits` grow: tokens[i] was chosen from logits[i], float32
    [vocab]."""

    lowered: LoweredModel
    twin: TwinModel
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    logits: list[FloatArray] = field(default_factory=list)

    def session(self, device: Device | None = None) -> Session:
        """A new sequence on `device`, by default a new simulated chip."""
        return Session(self.lowered, self.twin, device or SimulatedDevice(self.lowered.setup.board.chip))

    def generate(self, max_tokens: int, sampling: Sampling = GREEDY, device: Device | None = None) -> Iterator[int]:
        """Yields tokens: at most `max_tokens`, until an end-of-text token, which is not yielded, or until the cache is
        full."""
        setup = self.lowered.setup
        session = self.session(device)
        rng = np.random.default_rng(sampling.seed)
        logits = session.prefill(self.prompt)
        while len(self.tokens) < max_tokens:
            token = sampling.choose(logits, rng)
            if token in self.twin.tokenizer.eos:
                return
            self.tokens.append(token)
            self.logits.append(logits)
            yield token
            if len(self.tokens) < max_tokens:
                if session.length == setup.context:
                    return
                logits = session.decode(token)

    def step_time(self) -> StepTime:
        """The predicted time of a decode step in the middle of the generated text."""
        return Predictor(self.lowered).decode(self._middle)

    def step_time_without_pruning(self) -> StepTime | None:
        """The same for a program that attends to the whole cache. None if this one does, or if that one does not
        fit."""
        setup = self.lowered.setup
        if not setup.prunes:
            return None
        try:
            whole = lower(self.lowered.config, replace(setup, budget=None, submit=Submit.TOKEN), prefill=False)
        except NpusimError:
            return None
        return Predictor(whole).decode(self._middle)

    @property
    def _middle(self) -> int:
        return len(self.prompt) + max(1, len(self.tokens) // 2)

    def prefill_ms(self) -> float:
        """The predicted time to the first token."""
        return Predictor(self.lowered).prefill_ms(len(self.prompt))


def prepare(model: Model, setup: Setup, prompt: Sequence[int], by_layer: bool | None = None) -> Generation:
    """`model` quantised and lowered for `setup`, with `by_layer` as in lower. Raises what quantise and lower raise."""
    twin = quantise(model, setup.precision)
    return Generation(lower(model.config, setup, by_layer), twin, list(prompt))

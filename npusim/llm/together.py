"""Several prompts continued together on one simulated board, with what a step costs there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kv.errors import KVError
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.device import Device, SimulatedDevice
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.lowering import lower
from npusim.llm.pages import FloatArray
from npusim.llm.predict import Predictor, StepTime
from npusim.llm.session import Session
from npusim.llm.setup import Setup
from reference_model.generation import GREEDY, Sampling
from reference_model.model import Model
from reference_model.quant.quantise import quantise
from reference_model.quant.twin import TwinModel


@dataclass
class Text:
    """A prompt and what was drawn behind it.

    logits      what the next token is drawn from
    is_fed      whether the last token has gone through the chip
    """

    prompt: list[int]
    rng: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    logits: FloatArray | None = None
    is_fed: bool = True


@dataclass
class Together:
    """Prompts on a board; `texts` fill up while it generates. Each text is the one that its prompt gives alone."""

    lowered: LoweredModel
    twin: TwinModel
    prompts: Sequence[Sequence[int]]
    texts: list[Text] = field(default_factory=list)
    num_preempted: int = 0
    """How often a sequence had to leave its pages to others."""

    def generate(self, max_tokens: int, sampling: Sampling = GREEDY, device: Device | None = None) -> None:
        """At most max_tokens tokens of each, up to an end-of-text token (not kept) or the end of its context.

        A prompt waits while pages are missing; while they are missing for a step, the sequence that came last waits."""
        session = Session(self.lowered, self.twin, device or SimulatedDevice(self.lowered.setup.board.chip))
        self.texts = [Text(list(prompt), np.random.default_rng(sampling.seed)) for prompt in self.prompts]
        waiting, running = deque(range(len(self.texts))), list[int]()
        while waiting or running:
            self._admit(session, waiting, running)
            for index in list(running):
                if self._draw(session, index, max_tokens, sampling):
                    session.free(index)
                    running.remove(index)
            while running:
                try:
                    rows = session.step({index: self.texts[index].tokens[-1] for index in running})
                except KVError:
                    if len(running) == 1:
                        raise
                    session.preempt(running[-1])
                    waiting.appendleft(running.pop())
                    self.num_preempted += 1
                else:
                    for index in running:
                        self.texts[index].logits, self.texts[index].is_fed = rows[index], True
                    break

    def _admit(self, session: Session, waiting: deque[int], running: list[int]) -> None:
        """Starts or resumes those that wait, in order, as far as pages and rows reach."""
        while waiting and len(running) < self.lowered.setup.rows:
            text = self.texts[waiting[0]]
            try:
                if text.logits is None:
                    text.logits = session.admit(waiting[0], text.prompt)
                else:
                    session.resume(waiting[0])
            except KVError:
                if not running:
                    raise
                return
            running.append(waiting.popleft())

    def _draw(self, session: Session, index: int, max_tokens: int, sampling: Sampling) -> bool:
        """The next token of a text; whether it was the last one."""
        text = self.texts[index]
        if not text.is_fed:  # drawn before it was preempted
            return False
        if text.logits is None or len(text.tokens) == max_tokens:
            return True
        token = sampling.choose(text.logits, text.rng)
        if token in self.twin.tokenizer.eos:
            return True
        text.tokens.append(token)
        text.is_fed = False
        full = session.sequence(index).length == self.lowered.setup.context
        return full or len(text.tokens) == max_tokens


def prepare_together(model: Model, setup: Setup, prompts: Sequence[Sequence[int]]) -> Together:
    """`model` quantised and lowered for `setup`, whose rows decide how many prompts are decoded at once."""
    return Together(lower(model.config, setup), quantise(model, setup.precision), prompts)


@dataclass(frozen=True)
class TogetherReport:
    """Texts and speed. Times are predictions for the board, but for simulated_s.

    steps       a decode step of each number of rows that has a program, at a full context
    """

    setup: Setup
    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    steps: tuple[StepTime, ...]
    num_preempted: int
    simulated_s: float

    @classmethod
    def of(cls, run: Together, simulated_s: float) -> TogetherReport:
        """Of a run that took simulated_s."""
        predictor, setup = Predictor(run.lowered), run.lowered.setup
        return cls(
            setup=setup,
            texts=tuple(run.twin.tokenizer.decode(text.tokens) for text in run.texts),
            tokens=tuple(tuple(text.tokens) for text in run.texts),
            steps=tuple(predictor.decode(setup.context, rows) for rows in run.lowered.decodes),
            num_preempted=run.num_preempted,
            simulated_s=simulated_s,
        )

    def json(self) -> dict[str, Any]:
        """JSON-ready."""
        setup = self.setup
        return {
            "board": setup.board.name,
            "precision": setup.precision,
            "budget": setup.budget,
            "context": setup.context,
            "pool_tokens": PAGE_SIZE * setup.pool_pages,
            "texts": list(self.texts),
            "tokens": [list(tokens) for tokens in self.tokens],
            "steps": [asdict(step) | {"tokens_per_second": step.tokens_per_second} for step in self.steps],
            "num_preempted": self.num_preempted,
            "simulated_s": self.simulated_s,
        }

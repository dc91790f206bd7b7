"""One prompt under many policies and budgets: prefilled once, then all of them decoded side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import cast

import numpy as np
from numpy.typing import NDArray

from kv.cache import PagedCache
from kv.geometry import Geometry
from kv.metrics import kl_divergence, log_softmax
from kv.policies.base import Policy
from kv.policies.full import Full
from kv.policies.several import Several
from kv.store import PagedKV
from kv.traffic import StepTraffic
from npusim.llm.evaluation.prompts import Prompt
from reference_model.kv_store import KVStore
from reference_model.model import Model

CHUNK = 256
"""Tokens prefilled at once: their attention weights, [q_heads, CHUNK, context], are held for the policies that look at them."""

FloatArray = NDArray[np.float32]
OnProgress = Callable[[float], None]
IsDecided = Callable[[str], bool]


@dataclass(frozen=True)
class LaneKey:
    policy: Policy
    budget: int


@dataclass
class Lane:
    """What one policy under one budget did with a prompt.

    kl          KL(dense || pruned) of the next token after each of the question's tokens, in nats
    log_probs   of each of the question's tokens but the first
    traffic     of each step that gives a token of the answer, all layers together
    """

    store: PagedKV
    kl: list[float] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    traffic: list[StepTraffic] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    text: str = ""

    def count_traffic(self) -> None:
        self.traffic.append(reduce(add, (step for step in self.store.last_traffic if step)))


def run_lanes(
    model: Model,
    prompt: Prompt,
    keys: Sequence[LaneKey],
    page_size: int,
    max_new_tokens: int,
    is_decided: IsDecided,
    on_progress: OnProgress = lambda share: None,
) -> list[Lane]:
    """The prompt's answer under each policy and budget, greedy; a last lane more is the dense run.

    Nothing of a prompt depends on the policy, so it is computed once; from the question on every lane has its own tokens.
    on_progress is told the share of the work that is done, from 0 to 1.
    """
    keys = [*keys, LaneKey(Full(), max((key.budget for key in keys), default=page_size))]
    steps = len(prompt.question) + max_new_tokens
    prefill_share = 0.5
    prefix = _prefilled(model, prompt, keys, page_size, steps, lambda share: on_progress(prefill_share * share))
    lanes = [Lane(prefix.under(index, key.policy, key.budget)) for index, key in enumerate(keys)]

    def step_done(step: int) -> None:
        on_progress(prefill_share + (1 - prefill_share) * step / steps)

    logits = _ask(model, prompt.question, lanes, step_done)
    if max_new_tokens:
        _answer(model, lanes, logits, max_new_tokens, is_decided, lambda step: step_done(len(prompt.question) + step))
    on_progress(1)
    return lanes


def _prefilled(model: Model, prompt: Prompt, keys: Sequence[LaneKey], page_size: int, steps: int, on_progress: OnProgress) -> PagedKV:
    config = model.config
    geometry = Geometry(config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim, page_size)
    num_tokens = len(prompt.context)
    num_pages = geometry.pages(num_tokens) + len(keys) * (geometry.pages(steps) + 2)
    policies = tuple(dict.fromkeys(key.policy for key in keys))
    prefix = PagedKV(PagedCache(geometry, num_pages), "prompt", Several(policies), max(key.budget for key in keys))
    for start in range(0, num_tokens, CHUNK):
        model.hidden(prompt.context[start : start + CHUNK], cast(KVStore, prefix))
        on_progress(min(1.0, (start + CHUNK) / num_tokens))
    prefix.learn()
    return prefix


def _stores(lanes: Sequence[Lane]) -> list[KVStore]:
    return [cast(KVStore, lane.store) for lane in lanes]


def _ask(model: Model, question: Sequence[int], lanes: Sequence[Lane], step_done: Callable[[int], None]) -> FloatArray:
    """Feeds the question's tokens to every lane; logits [lanes, vocab] after the last."""
    stores = _stores(lanes)
    for step, token in enumerate(question):
        logits = model.step([token] * len(lanes), stores)
        following = question[step + 1] if step + 1 < len(question) else None
        for lane, row, kl in zip(lanes, logits, kl_divergence(np.broadcast_to(logits[-1], logits.shape), logits), strict=True):
            lane.kl.append(float(kl))
            if following is not None:
                lane.log_probs.append(float(log_softmax(row)[following]))
        step_done(step + 1)
    for lane in lanes:
        lane.count_traffic()
    return logits


def _answer(
    model: Model, lanes: Sequence[Lane], logits: FloatArray, max_new_tokens: int, is_decided: IsDecided, step_done: Callable[[int], None]
) -> None:
    """Lets every lane take its likeliest token until its answer is decided, ends, or is as long as it may be."""
    alive = list(lanes)
    for step in range(max_new_tokens):
        going = []
        for lane, row in zip(alive, logits, strict=True):
            token = int(row.argmax())
            if token in model.tokenizer.eos:
                continue
            lane.answer.append(token)
            lane.text = model.tokenizer.decode(lane.answer)
            if not is_decided(lane.text):
                going.append(lane)
        alive = going
        step_done(step + 1)
        if not alive or step + 1 == max_new_tokens:
            return
        logits = model.step([lane.answer[-1] for lane in alive], _stores(alive))
        for lane in alive:
            lane.count_traffic()

"""One prompt under many policies and budgets: prefilled once, then all of them decoded side by side."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.metrics import kl_divergence, log_softmax
from kv.policies.base import Policy
from kv.policies.full import Full
from kv.policies.several import Several
from kv.sequence.paged_kv import Activity, PagedKV
from kv.sequence.residency import Residency
from kv.sequence.traffic import StepTraffic
from npusim.evaluation.prompts import Prompt
from reference_model.model import Model

CHUNK = 256
"""Tokens prefilled at once: their attention weights, [q_heads, CHUNK, context], are held for the policies that look at
them."""

LANES_AT_ONCE = 24
"""Lanes decoded side by side: each has its own copy of what its policy keeps of the prompt, so this bounds memory."""
PREFILL_SHARE = 0.5
"""Of the time that a prompt takes, roughly."""

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

    activity    of its store
    kl          KL(dense || pruned) of the next token after each of the question's tokens, in nats
    log_probs   of each of the question's tokens but the first
    traffic     of each step that gives a token of the answer, all layers together
    moved       bytes that each of these steps would bring to a device that cannot hold everything
    """

    activity: Activity
    kl: list[float] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    traffic: list[StepTraffic] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    text: str = ""


@dataclass(frozen=True)
class _Running:
    """A lane, the store that it runs on, and what of each layer is on the device (nothing where the device holds
    everything)."""

    lane: Lane
    store: PagedKV
    residency: list[Residency]

    def count(self, answers: bool) -> None:
        """Keep the books of a step that was just done; `answers`: it gives a token of the answer."""
        brought = sum(layer.touch(self.store.pages_read(index)) for index, layer in enumerate(self.residency))
        if answers:
            cache = self.store.cache
            self.lane.traffic.append(reduce(add, (step for step in self.store.last_traffic if step)))
            self.lane.moved.append(brought * cache.geometry.head_page_bytes(cache.pool.dtype.itemsize))


def run_lanes(
    model: Model,
    prompt: Prompt,
    keys: Sequence[LaneKey],
    page_size: int,
    max_new_tokens: int,
    is_decided: IsDecided,
    on_progress: OnProgress = lambda share: None,
    device_tokens: int = 0,
) -> list[Lane]:
    """The prompt's answer under each policy and budget, greedy; a last lane more is the dense run.

    Nothing of a prompt depends on the policy, so it is computed once; from the question on every lane has its own
    tokens. device_tokens is what a device holds of each layer and KV head, 0 for everything. on_progress is told the
    share of the work that is done, from 0 to 1."""
    gc.collect()  # the prompt before
    steps = len(prompt.question) + max_new_tokens
    prefix = _prefilled(model, prompt, keys, page_size, steps, lambda share: on_progress(PREFILL_SHARE * share))
    starts = range(0, max(len(keys), 1), LANES_AT_ONCE)
    done: list[Lane] = []
    for number, start in enumerate(starts):

        def step_done(step: int, number: int = number) -> None:
            on_progress(PREFILL_SHARE + (1 - PREFILL_SHARE) * (number + step / steps) / len(starts))

        group = [*keys[start : start + LANES_AT_ONCE], _dense(keys, page_size)]
        lanes = _run_group(model, prompt, prefix, group, device_tokens, max_new_tokens, is_decided, step_done)
        done[-1:] = lanes  # in place of the dense run of the group before
        gc.collect()  # stores and their states refer to each other, and hold most of the memory
    on_progress(1)
    return done


def _run_group(
    model: Model,
    prompt: Prompt,
    prefix: PagedKV,
    keys: Sequence[LaneKey],
    device_tokens: int,
    max_new_tokens: int,
    is_decided: IsDecided,
    step_done: Callable[[int], None],
) -> list[Lane]:
    stores = [prefix.under(index, key.policy, key.budget) for index, key in enumerate(keys)]
    g = prefix.cache.geometry
    pages, fits = g.pages(prefix.length), device_tokens // g.page_size
    residency = [
        [Residency(g.num_kv_heads, pages, fits) for _ in range(g.num_layers if device_tokens else 0)] for _ in stores
    ]
    running = [_Running(Lane(store.activity), store, held) for store, held in zip(stores, residency, strict=True)]
    logits = _ask(model, prompt.question, running, step_done)
    if max_new_tokens:
        _answer(model, running, logits, max_new_tokens, is_decided, lambda step: step_done(len(prompt.question) + step))
    for store in stores:
        prefix.cache.free(store.seq)
    return [one.lane for one in running]


def _dense(keys: Sequence[LaneKey], page_size: int) -> LaneKey:
    return LaneKey(Full(), max((key.budget for key in keys), default=page_size))


def _prefilled(
    model: Model, prompt: Prompt, keys: Sequence[LaneKey], page_size: int, steps: int, on_progress: OnProgress
) -> PagedKV:
    config = model.config
    geometry = Geometry(config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim, page_size)
    num_tokens = len(prompt.context)
    num_pages = geometry.pages(num_tokens) + (LANES_AT_ONCE + 1) * (geometry.pages(steps) + 2)
    dense = _dense(keys, page_size)
    policies = tuple(dict.fromkeys(key.policy for key in [*keys, dense]))
    prefix = PagedKV(PagedCache(geometry, num_pages), "prompt", Several(policies), dense.budget)
    for start in range(0, num_tokens, CHUNK):
        model.hidden(prompt.context[start : start + CHUNK], prefix)
        on_progress(min(1.0, (start + CHUNK) / num_tokens))
    prefix.learn()
    return prefix


def _step(model: Model, tokens: Sequence[int], running: Sequence[_Running]) -> FloatArray:
    return model.step(tokens, [one.store for one in running])


def _ask(
    model: Model, question: Sequence[int], running: Sequence[_Running], step_done: Callable[[int], None]
) -> FloatArray:
    """Feeds the question's tokens to every lane, the last of which is the dense one; logits [lanes, vocab] after the
    last token."""
    for step, token in enumerate(question):
        logits = _step(model, [token] * len(running), running)
        following = question[step + 1] if step + 1 < len(question) else None
        for one, row, kl in zip(
            running, logits, kl_divergence(np.broadcast_to(logits[-1], logits.shape), logits), strict=True
        ):
            one.lane.kl.append(float(kl))
            if following is not None:
                one.lane.log_probs.append(float(log_softmax(row)[following]))
        for one in running:
            one.count(answers=following is None)
        step_done(step + 1)
    return logits


def _answer(
    model: Model,
    running: Sequence[_Running],
    logits: FloatArray,
    max_new_tokens: int,
    is_decided: IsDecided,
    step_done: Callable[[int], None],
) -> None:
    """Lets every lane take its likeliest token until its answer is decided, ends, or is as long as it may be."""
    for step in range(max_new_tokens):
        going = []
        for one, row in zip(running, logits, strict=True):
            token = int(row.argmax())
            if token in model.tokenizer.eos:
                continue
            one.lane.answer.append(token)
            one.lane.text = model.tokenizer.decode(one.lane.answer)
            if not is_decided(one.lane.text):
                going.append(one)
        running = going
        step_done(step + 1)
        if not running or step + 1 == max_new_tokens:
            return
        logits = _step(model, [one.lane.answer[-1] for one in running], running)
        for one in running:
            one.count(answers=True)

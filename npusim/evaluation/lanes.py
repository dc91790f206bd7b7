"""Answers one prompt with many policies and budgets: it is prefilled once, then all of them decode side by side."""

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
from kv.sequence.decode_step import Activity
from kv.sequence.paged_kv import PagedKV
from kv.sequence.residency import Residency
from kv.sequence.traffic import StepTraffic
from npusim.evaluation.prompts import Prompt
from reference_model.model import Model

CHUNK = 256
"""Tokens prefilled at once. Their attention weights, [q_heads, CHUNK, context], are kept for policies that use them."""

LANES_AT_ONCE = 24
"""Lanes decoded side by side. Each has its own copy of what its policy keeps of the prompt, so this bounds memory."""
PREFILL_SHARE = 0.5
"""Share of a prompt's time that prefill takes, roughly."""

FloatArray = NDArray[np.float32]
OnProgress = Callable[[float], None]
IsDecided = Callable[[str], bool]


@dataclass(frozen=True)
class LaneKey:
    policy: Policy
    budget: int


@dataclass
class Lane:
    """What one policy with one budget did with a prompt.

    activity    the activity of its store
    kl          KL(dense || pruned) of the next token after each token of the question, in nats
    log_probs   log probability of each token of the question except the first
    traffic     traffic of each step that gives a token of the answer, all layers together
    moved       bytes that each of these steps would move to a device that does not hold the whole cache
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
    """A lane, its store, and for each layer what is on the device; `residency` is empty if the device holds the whole
    cache."""

    lane: Lane
    store: PagedKV
    residency: list[Residency]

    def count(self, answers: bool) -> None:
        """Counts the traffic of the last step. `answers`: whether the step gives a token of the answer."""
        brought = sum(layer.touch(self.store.pages_read(index)) for index, layer in enumerate(self.residency))
        if answers:
            cache = self.store.cache
            self.lane.traffic.append(reduce(add, (step for step in self.store.last_traffic if step)))
            self.lane.moved.append(brought * cache.geometry.head_page_bytes(cache.pool.dtype.itemsize))


@dataclass(frozen=True, kw_only=True)
class LaneSettings:
    """Settings of all lanes.

    max_new_tokens  the most tokens of an answer
    page_size       tokens in a page
    device_tokens   tokens that a device holds for each layer and KV head, 0 for all
    is_decided      whether the text of an answer so far decides its score, so that its lane may stop
    """

    max_new_tokens: int
    page_size: int = 16
    device_tokens: int = 0
    is_decided: IsDecided = lambda text: False


@dataclass(frozen=True)
class Lanes:
    """Answers one prompt with many policies and budgets, greedily.

    The prompt's context does not depend on the policy, so it is computed once. Each lane computes the question and the
    answer by itself."""

    model: Model
    prompt: Prompt
    settings: LaneSettings

    def run(self, keys: Sequence[LaneKey], on_progress: OnProgress = lambda share: None) -> list[Lane]:
        """The lanes of `keys`, and as the last one the dense run. `on_progress` is called with the share of the work
        that is done, from 0 to 1."""
        gc.collect()  # frees what the prompt before left
        prefix = self._prefilled(keys, lambda share: on_progress(PREFILL_SHARE * share))
        starts = range(0, max(len(keys), 1), LANES_AT_ONCE)
        done: list[Lane] = []
        for number, start in enumerate(starts):

            def step_done(step: int, number: int = number) -> None:
                on_progress(PREFILL_SHARE + (1 - PREFILL_SHARE) * (number + step / self._num_steps) / len(starts))

            lanes = self._run_group(prefix, [*keys[start : start + LANES_AT_ONCE], self._dense(keys)], step_done)
            done[-1:] = lanes  # replaces the dense run of the group before
        on_progress(1)
        return done

    @property
    def _num_steps(self) -> int:
        """The most steps that a lane takes."""
        return len(self.prompt.question) + self.settings.max_new_tokens

    def _dense(self, keys: Sequence[LaneKey]) -> LaneKey:
        return LaneKey(Full(), max((key.budget for key in keys), default=self.settings.page_size))

    def _prefilled(self, keys: Sequence[LaneKey], on_progress: OnProgress) -> PagedKV:
        """A store of the prompt's context that serves every policy."""
        c, context = self.model.config, self.prompt.context
        geometry = Geometry(c.num_layers, c.num_heads, c.num_kv_heads, c.head_dim, self.settings.page_size)
        num_pages = geometry.pages(len(context)) + (LANES_AT_ONCE + 1) * (geometry.pages(self._num_steps) + 2)
        dense = self._dense(keys)
        policies = tuple(dict.fromkeys(key.policy for key in [*keys, dense]))
        prefix = PagedKV(PagedCache(geometry, num_pages), "prompt", Several(policies), dense.budget)
        for start in range(0, len(context), CHUNK):
            self.model.hidden(context[start : start + CHUNK], prefix)
            on_progress(min(1.0, (start + CHUNK) / len(context)))
        prefix.learn()
        return prefix

    def _run_group(self, prefix: PagedKV, keys: Sequence[LaneKey], step_done: Callable[[int], None]) -> list[Lane]:
        """Runs the lanes of `keys` side by side, each from a fork of `prefix`. The last key is the dense one."""
        stores = [prefix.under(index, key.policy, key.budget) for index, key in enumerate(keys)]
        running = [_Running(Lane(store.activity), store, self._residency(prefix)) for store in stores]
        logits = self._ask(running, step_done)
        if self.settings.max_new_tokens:
            self._answer(running, logits, lambda step: step_done(len(self.prompt.question) + step))
        for store in stores:
            prefix.cache.free(store.seq)
        return [one.lane for one in running]

    def _residency(self, prefix: PagedKV) -> list[Residency]:
        """What is on the device for each layer before a lane's first step; empty if the device holds the whole
        cache."""
        g, tokens = prefix.cache.geometry, self.settings.device_tokens
        num_layers = g.num_layers if tokens else 0
        return [Residency(g.num_kv_heads, g.pages(prefix.length), tokens // g.page_size) for _ in range(num_layers)]

    def _step(self, tokens: Sequence[int], running: Sequence[_Running]) -> FloatArray:
        return self.model.step(tokens, [one.store for one in running])

    def _ask(self, running: Sequence[_Running], step_done: Callable[[int], None]) -> FloatArray:
        """Feeds the question's tokens to every lane. -> logits, float32 [lanes, vocab], after the last token. The last
        lane is the dense one."""
        question = self.prompt.question
        for step, token in enumerate(question):
            logits = self._step([token] * len(running), running)
            following = question[step + 1] if step + 1 < len(question) else None
            divergence = kl_divergence(np.broadcast_to(logits[-1], logits.shape), logits)
            for one, row, kl in zip(running, logits, divergence, strict=True):
                one.lane.kl.append(float(kl))
                if following is not None:
                    one.lane.log_probs.append(float(log_softmax(row)[following]))
                one.count(answers=following is None)
            step_done(step + 1)
        return logits

    def _answer(self, running: Sequence[_Running], logits: FloatArray, step_done: Callable[[int], None]) -> None:
        """Lets every lane take its likeliest token until its answer is decided, has ended, or has max_new_tokens."""
        for step in range(self.settings.max_new_tokens):
            running = [one for one, row in zip(running, logits, strict=True) if self._goes_on(one.lane, row)]
            step_done(step + 1)
            if not running or step + 1 == self.settings.max_new_tokens:
                return
            logits = self._step([one.lane.answer[-1] for one in running], running)
            for one in running:
                one.count(answers=True)

    def _goes_on(self, lane: Lane, logits: FloatArray) -> bool:
        """Adds the likeliest token to the lane's answer, unless it ends the text. -> whether the lane needs another
        token."""
        token = int(logits.argmax())
        if token in self.model.tokenizer.eos:
            return False
        lane.answer.append(token)
        lane.text = self.model.tokenizer.decode(lane.answer)
        return not self.settings.is_decided(lane.text)

"""Turns a task's sample into tokens for a model: the context, which is prefilled, and the question, which is fed token
by token with a policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kv.tasks.base import Sample, Task
from kv.tasks.files import FileTask
from npusim.errors import UsageError
from reference_model.tokenizer import Tokenizer

SEAM_TOKENS = 4
"""A text that is encoded in parts may take a few more tokens than as a whole."""


@dataclass(frozen=True)
class Prompt:
    """The context is computed densely. The question is fed token by token, as in Quest's evaluation, since a policy
    only acts in decode steps."""

    context: list[int]
    question: list[int]


@dataclass(frozen=True)
class Frame:
    """The text that a model's chat format puts before a question, and between it and the answer; empty for a base
    model."""

    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, tokenizer: Tokenizer, task: Task) -> Frame:
        if tokenizer.chat is None or not task.chat:
            return cls()
        before, _, after = tokenizer.chat.render([("user", "\0")]).partition("\0")
        return cls(before, after)

    def prompt(self, tokenizer: Tokenizer, sample: Sample) -> Prompt:
        prefix = sample.answer_prefix.lstrip() if self.after else sample.answer_prefix
        return Prompt(
            tokenizer.encode(self.before + sample.context),
            tokenizer.encode(sample.question + self.after + prefix, special=False),
        )


def draw_sample(
    tokenizer: Tokenizer, task: Task, frame: Frame, *, num_tokens: int, number: int, seed: int = 0
) -> Sample:
    """Sample `number` of a task, whose prompt and answer together have at most `num_tokens` tokens. Raises KVError if
    it cannot be so short.

    Samples of a file are in its order. Other tasks draw them: equal seeds give equal samples.
    """

    def count_tokens(text: str) -> int:
        return len(tokenizer.encode(text, special=False))

    def drawn(room: int) -> Sample:
        if isinstance(task, FileTask):
            return task.fitted(number, room, count_tokens)
        return task.sample(np.random.default_rng((seed, num_tokens, number)), room, count_tokens)

    room = num_tokens - count_tokens(frame.before + frame.after) - SEAM_TOKENS
    sample = drawn(room)
    return drawn(room - sample.max_new_tokens) if sample.max_new_tokens else sample


def check_fits(prompt: Prompt, max_new_tokens: int, context_length: int) -> None:
    """Raises UsageError for a prompt that leaves no room for its answer, or that has an empty part."""
    needed = len(prompt.context) + len(prompt.question) + max_new_tokens
    if needed > context_length:
        raise UsageError(
            f"a sample takes {needed} tokens, but the model's context has {context_length}: give a shorter --context"
        )
    if not prompt.context or not prompt.question:
        raise UsageError("a sample has an empty context or question: give a task whose samples have both")

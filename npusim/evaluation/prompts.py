"""From a task's sample to the tokens that a model is given: those prefilled, and those that a policy acts on one by
one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kv.tasks.base import Sample, Task
from kv.tasks.files import FileTask
from npusim.errors import UsageError
from reference_model.tokenizer import Tokenizer

SEAM_TOKENS = 4
"""Texts that are encoded in parts may take a few tokens more than as a whole."""


@dataclass(frozen=True)
class Prompt:
    """context is stored densely; question is fed token by token, as Quest's evaluation does, since a policy acts at
    decode time only."""

    context: list[int]
    question: list[int]


@dataclass(frozen=True)
class Frame:
    """What a model's chat format puts before a question and between it and the answer; nothing for a base model."""

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
    """Sample `number` of a task, such that prompt and answer together take at most num_tokens. KVError if it cannot be
    so short.

    A file's samples come in its order; a generator's are drawn, the same from the same seed.
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
    """Refuses a prompt that leaves no room for its answer."""
    needed = len(prompt.context) + len(prompt.question) + max_new_tokens
    if needed > context_length:
        raise UsageError(
            f"a sample takes {needed} tokens, the model's context has {context_length}: ask for a shorter --context"
        )
    if not prompt.context or not prompt.question:
        raise UsageError("a sample has an empty context or question: there is nothing to store or nothing to ask")

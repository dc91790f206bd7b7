"""Tasks whose samples are read from a benchmark's file, in order, and are shortened in the middle if they are too
long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kv.errors import KVError
from kv.tasks import infinitebench, longbench
from kv.tasks.base import CountTokens, Sample, Task, largest_fit
from kv.tasks.jsonl import read_jsonl
from kv.tasks.prompts import PLAIN_TEMPLATE, infinitebench_samples, longbench_samples, whole_prompt_samples


@dataclass(frozen=True, kw_only=True)
class FileTask(Task):
    """A task with the samples of a file. `damaged` has (line number, what is wrong) of lines that were left out or
    shortened."""

    name: str  # type: ignore[misc]
    samples: tuple[Sample, ...]
    scorer: Callable[[str, Sample], float]
    damaged: tuple[tuple[int, str], ...]
    chat: bool = True  # type: ignore[misc]

    def sample(self, rng: np.random.Generator, num_tokens: int, count_tokens: CountTokens) -> Sample:
        return self.fitted(int(rng.integers(len(self.samples))), num_tokens, count_tokens)

    def fitted(self, index: int, num_tokens: int, count_tokens: CountTokens) -> Sample:
        """Sample `index` with at most `num_tokens` tokens. If its context is too long, only the beginning and the end
        are kept, as in LongBench."""
        sample = self.samples[index]
        text = sample.context
        if count_tokens(text + sample.question) <= num_tokens:
            return sample

        def shortened(size: int) -> str:
            return text[: (size + 1) // 2] + text[len(text) - size // 2 :]

        size = largest_fit(lambda n: shortened(n) + sample.question, num_tokens, count_tokens, most=len(text))
        return replace(sample, context=shortened(size))

    def score(self, prediction: str, sample: Sample) -> float:
        return self.scorer(prediction, sample)


def longbench_file(path: Path, max_samples: int | None = None, template: str = PLAIN_TEMPLATE) -> FileTask:
    """The LongBench task that the file is named after, such as hotpotqa.jsonl. Raises KVError if there is no such task
    or the file has another form."""
    task = longbench.longbench_task(path.stem)

    def score(prediction: str, sample: Sample) -> float:
        return longbench.score_sample(task, prediction, sample.answers, sample.classes)

    samples = tuple(longbench_samples(path, path.stem, template, max_samples))
    damaged = tuple(read_jsonl(path, max_samples).damaged)
    return FileTask(name=f"longbench:{path.stem}", samples=samples, scorer=score, damaged=damaged, chat=task.chat)


def prompts_file(path: Path, max_samples: int | None = None) -> FileTask:
    """Whole prompts of several LongBench tasks. Each line has `task`, `prompt` and `gold`: an answer, several in a
    list, or an object with `answers` and `all_classes`. Raises KVError, with the line number, for another file.

    A prompt is used as it is, without a chat format. Its end is the question: see QUESTION_CHARS."""

    def score(prediction: str, sample: Sample) -> float:
        return longbench.score_sample(longbench.longbench_task(sample.task), prediction, sample.answers, sample.classes)

    samples = tuple(whole_prompt_samples(path, max_samples))
    damaged = tuple(read_jsonl(path, max_samples).damaged)
    return FileTask(name=f"prompts:{path.stem}", samples=samples, scorer=score, damaged=damaged, chat=False)


def infinitebench_file(path: Path, max_samples: int | None = None) -> FileTask:
    """The InfiniteBench task that the file is named after, such as passkey.jsonl. Raises KVError if there is no such
    task or the file has another form."""
    task = infinitebench.infinitebench_task(path.stem)

    def score(prediction: str, sample: Sample) -> float:
        label: list[str] | list[int] = list(sample.answers)
        if task.scorer is infinitebench.math_calc:
            try:
                label = [int(answer) for answer in sample.answers]
            except ValueError:
                raise KVError(
                    f"{path.name}: an answer of {task.name} is {sample.answers[0][:40]!r}, where whole numbers belong"
                ) from None
        return infinitebench.score(task.name, prediction, label)

    samples = tuple(infinitebench_samples(path, path.stem, max_samples=max_samples))
    damaged = tuple(read_jsonl(path, max_samples).damaged)
    return FileTask(name=f"infinitebench:{path.stem}", samples=samples, scorer=score, damaged=damaged)

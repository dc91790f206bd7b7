"""Carries out a plan, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from kv.tasks.base import Sample, Task
from kv.tasks.files import FileTask
from npusim.errors import UsageError
from npusim.evaluation.calibration import check_calibration
from npusim.evaluation.journal import Journal
from npusim.evaluation.lanes import Lane, Lanes, LaneSettings
from npusim.evaluation.plan import FULL, Cell, Plan
from npusim.evaluation.prompts import Frame, check_fits, draw_sample
from npusim.evaluation.row import Outcome, Outcomes
from npusim.evaluation.tasks import task_from
from reference_model.loading import load
from reference_model.model import Model

OnProgress = Callable[[Cell, float], None]
"""(sample, share of it that is done)."""


def evaluate(
    plan: Plan,
    model: Model,
    task: Task,
    journal: Journal | None = None,
    on_progress: OnProgress = lambda cell, share: None,
    *,
    jobs: int = 1,
) -> Outcomes:
    """The outcomes of every sample, including those that the journal already has. Each finished sample is added to the
    journal at once.

    With `jobs` above 1, that many processes share the samples, and the outcomes are the same. Each process loads the
    model and the task that the plan names, and progress is reported only for whole samples. Raises UsageError if one
    of them ends early, or if the plan asks for something that the model or the task cannot do."""
    plan.check_model(model.config)
    for key in plan.lanes():
        check_calibration(key.policy, model)
    if isinstance(task, FileTask) and plan.samples > len(task.samples):
        raise UsageError(f"{plan.samples} samples of {task.name}: the file has {len(task.samples)}, ask for no more")
    done = dict(journal.done) if journal else {}
    for cell in done:
        on_progress(cell, 1.0)
    left = [cell for cell in plan.cells if cell not in done]
    here = ((cell, evaluate_sample(plan, model, task, cell, partial(on_progress, cell))) for cell in left)
    for cell, outcomes in here if min(jobs, len(left)) < 2 else evaluate_apart(plan, left, min(jobs, len(left))):
        done[cell] = outcomes
        if journal:
            journal.add(cell, outcomes)
        on_progress(cell, 1.0)
    return {cell: done[cell] for cell in plan.cells}


def evaluate_apart(plan: Plan, cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, list[Outcome]]]:
    """(sample, its outcomes) of `cells`, computed in `jobs` other processes, in the order in which they finish."""
    workers = ProcessPoolExecutor(jobs, get_context("spawn"))
    try:
        running = {workers.submit(_evaluate_named, plan, cell): cell for cell in cells}
        for finished in as_completed(running):
            yield running[finished], finished.result()
    except BrokenProcessPool:
        raise UsageError(
            f"one of {jobs} processes has ended early, perhaps for lack of memory: give a smaller --jobs"
        ) from None
    finally:
        workers.shutdown(cancel_futures=True)


def _evaluate_named(plan: Plan, cell: Cell) -> list[Outcome]:
    return evaluate_sample(plan, *_named(plan), cell)


@cache
def _named(plan: Plan) -> tuple[Model, Task]:
    """The model and the task that a plan names, loaded once in a process."""
    model = load(plan.model)
    haystack, templates = (Path(name) if name else None for name in (plan.haystack, plan.templates))
    return model, task_from(plan.task, model.tokenizer, haystack, templates)


def evaluate_sample(
    plan: Plan,
    model: Model,
    task: Task,
    cell: Cell,
    on_progress: Callable[[float], None] = lambda share: None,
) -> list[Outcome]:
    """The outcomes of one sample with every policy and budget of the plan."""
    context, number = cell
    frame = Frame.of(model.tokenizer, task)
    sample = draw_sample(model.tokenizer, task, frame, num_tokens=context, number=number, seed=plan.seed)
    prompt = frame.prompt(model.tokenizer, sample)
    check_fits(prompt, sample.max_new_tokens, model.config.context_length)
    keys = plan.lanes()
    settings = LaneSettings(
        max_new_tokens=sample.max_new_tokens,
        page_size=plan.cache_page_size,
        device_tokens=plan.device_tokens,
        is_decided=lambda text: task.is_decided(text, sample),
    )
    lanes = Lanes(model, prompt, settings).run(list(keys), on_progress)
    names = [(name, key.budget) for key, name in keys.items()]
    if FULL in plan.policies:
        names.append((FULL, max(plan.budgets)))
    num_tokens = len(prompt.context) + len(prompt.question)
    return [
        _outcome(name, budget, lane, _score(task, sample, lane), num_tokens)
        for (name, budget), lane in zip(names, lanes, strict=False)
    ]


def _score(task: Task, sample: Sample, lane: Lane) -> float:
    """The task's score of the answer; for a task without answers, the perplexity of the question."""
    return task.score(lane.text, sample) if sample.max_new_tokens else float(np.exp(-np.mean(lane.log_probs)))


def _outcome(policy: str, budget: int, lane: Lane, score: float, prompt_tokens: int) -> Outcome:
    def mean(field: str) -> float:
        return float(np.mean([getattr(step, field) for step in lane.traffic]))

    return Outcome(
        policy=policy,
        budget=budget,
        score=score,
        kl=float(np.mean(lane.kl)),
        bytes_per_step=mean("total_bytes"),
        descriptors_per_step=mean("descriptors"),
        metadata_bytes_per_step=mean("metadata_bytes"),
        padding_bytes_per_step=mean("padding_bytes"),
        moved_bytes_per_step=float(np.mean(lane.moved)),
        prompt_tokens=prompt_tokens,
        answer=lane.text,
    )

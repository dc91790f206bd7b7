"""Results of an evaluation: an Outcome for each sample, policy and budget, and a Row of means over samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from npusim.evaluation.plan import FULL, Cell, Plan


@dataclass(frozen=True)
class Outcome:
    """The result of one sample with one policy and budget. Bytes and descriptors are those of all layers in one decode
    step, as the mean over the answer's tokens. kl is in nats."""

    policy: str
    budget: int
    score: float
    kl: float
    bytes_per_step: float
    descriptors_per_step: float
    metadata_bytes_per_step: float
    padding_bytes_per_step: float
    moved_bytes_per_step: float
    prompt_tokens: int
    answer: str


Outcomes = dict[Cell, list[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result for one context, policy and budget: means of the fields of Outcome over its samples, and the answers.

    score_error     standard error of the mean score
    """

    model: str
    task: str
    context: int
    policy: str
    budget: int
    samples: int
    score: float
    kl: float
    bytes_per_step: float
    descriptors_per_step: float
    metadata_bytes_per_step: float
    padding_bytes_per_step: float
    moved_bytes_per_step: float
    prompt_tokens: float
    score_error: float
    page_size: int
    dense_layers: int
    seed: int
    device_tokens: int
    answers: tuple[str, ...]


MEANS = tuple(name for name in Outcome.__dataclass_fields__ if name not in ("policy", "budget", "answer"))
"""Fields of Outcome whose mean is the field of Row with the same name."""
_OF_PLAN = tuple(field.name for field in fields(Row) if field.name in Plan.__dataclass_fields__.keys() - {"samples"})
"""Fields of Row that are copied from the Plan."""


def rows(plan: Plan, outcomes: Mapping[Cell, Sequence[Outcome]]) -> list[Row]:
    """A row for each context, policy and budget that has a sample.

    The policy `full` does not depend on the budget, so its row is repeated for every budget.
    """
    return [row for context in sorted(plan.contexts) for row in _rows_of(plan, context, outcomes)]


def _rows_of(plan: Plan, context: int, outcomes: Mapping[Cell, Sequence[Outcome]]) -> Iterator[Row]:
    found = [outcome for (length, _), cell in sorted(outcomes.items()) if length == context for outcome in cell]
    for name in plan.policies:
        for budget in sorted(plan.budgets):
            of_row = [
                outcome for outcome in found if outcome.policy == name and (name == FULL or outcome.budget == budget)
            ]
            if of_row:
                yield _row(plan, context, name, budget, of_row)


def _row(plan: Plan, context: int, policy: str, budget: int, outcomes: Sequence[Outcome]) -> Row:
    values: dict[str, Any] = {name: getattr(plan, name) for name in _OF_PLAN}
    values["page_size"] = plan.page_size_of(policy)
    values |= {name: float(np.mean([getattr(outcome, name) for outcome in outcomes])) for name in MEANS}
    return Row(
        context=context,
        policy=policy,
        budget=budget,
        samples=len(outcomes),
        score_error=float(np.std([outcome.score for outcome in outcomes]) / np.sqrt(len(outcomes))),
        answers=tuple(outcome.answer for outcome in outcomes),
        **values,
    )

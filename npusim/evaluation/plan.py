"""What is to be evaluated, and the rows that come out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from kv.errors import KVError
from kv.memory.geometry import Geometry
from kv.policies import policy_named
from kv.policies.base import Policy
from kv.policies.per_layer import PerLayer
from npusim.errors import UsageError
from npusim.evaluation.lanes import LaneKey
from reference_model.config import ModelConfig

FULL = "full"


@dataclass(frozen=True)
class Plan:
    """Every policy under every budget on the same samples of every context length.

    dense_layers    first layers that attend to everything, under every policy (Quest's evaluation: 2); their traffic
                    counts
    seed            of the samples: equal seeds give equal samples
    device_tokens   what the device holds of each layer and KV head, 0 for everything; what else a step reads is counted
                    as moved
    haystack, templates     files that the task was made with
    """

    model: str
    task: str
    policies: tuple[str, ...]
    budgets: tuple[int, ...]
    contexts: tuple[int, ...]
    samples: int = 10
    page_size: int = 16
    dense_layers: int = 2
    seed: int = 0
    device_tokens: int = 0
    haystack: str = ""
    templates: str = ""

    def __post_init__(self) -> None:
        for name in ("policies", "budgets", "contexts"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise UsageError(
                    f"{name} are {', '.join(map(str, values)) or 'none'}: give at least one, and each once"
                )
        for spec in self.policies:
            policy_named(spec)
        for name, least in (("samples", 1), ("page_size", 1), ("dense_layers", 0), ("seed", 0), ("device_tokens", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if min(self.budgets) < self.page_size:
            raise KVError(
                f"a budget of {min(self.budgets)} tokens is below one page of {self.page_size}: raise the "
                "budget or use smaller pages"
            )

        if 0 < self.device_tokens < self.page_size:
            raise UsageError(
                f"device_tokens is {self.device_tokens}: give 0 for all, or at least one page of {self.page_size}"
            )

    def check_model(self, config: ModelConfig) -> None:
        """Refuses what this model cannot do, before anything is computed."""
        Geometry(config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim, self.page_size)
        for context in self.contexts:
            if not 1 <= context <= config.context_length:
                raise UsageError(
                    f"a context of {context} tokens: {self.model} can take from 1 to {config.context_length}"
                )
        if self.dense_layers > config.num_layers:
            raise UsageError(f"dense_layers is {self.dense_layers}: {self.model} has {config.num_layers} layers")

    @property
    def cells(self) -> list[tuple[int, int]]:
        """(context, number of the sample), the short contexts first so that there is something to look at early."""
        return [(context, sample) for context in sorted(self.contexts) for sample in range(self.samples)]

    def lanes(self) -> dict[LaneKey, str]:
        """What is decoded side by side, and the policy's name. The dense run is there in any case, so it is not among
        them."""
        return {
            LaneKey(self._policy(name), budget): name
            for name in self.policies
            if name != FULL
            for budget in self.budgets
        }

    def _policy(self, name: str) -> Policy:
        policy = policy_named(name)
        return PerLayer(policy, self.dense_layers) if self.dense_layers else policy

    def settings(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Outcome:
    """One sample under one policy and budget. Bytes and descriptors are of all layers in one decode step, mean over the
    answer's tokens."""

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


MEANS = tuple(field.name for field in fields(Outcome) if field.name not in ("policy", "budget", "answer"))


def rows(plan: Plan, outcomes: dict[tuple[int, int], list[Outcome]]) -> list[dict[str, Any]]:
    """One row for each context, policy and budget of which there is a sample: means over its samples, and the answers.

    The row of `full` is repeated for every budget, which it ignores; `score_error` is the standard error of the mean.
    """
    return [row for context in sorted(plan.contexts) for row in _rows_of(plan, context, outcomes)]


def _rows_of(plan: Plan, context: int, outcomes: dict[tuple[int, int], list[Outcome]]) -> Iterator[dict[str, Any]]:
    found = [outcome for (length, _), cell in sorted(outcomes.items()) if length == context for outcome in cell]
    for name in plan.policies:
        for budget in sorted(plan.budgets):
            of_row = [
                outcome for outcome in found if outcome.policy == name and (name == FULL or outcome.budget == budget)
            ]
            if not of_row:
                continue
            means = {mean: float(np.mean([getattr(outcome, mean) for outcome in of_row])) for mean in MEANS}
            yield {
                "model": plan.model,
                "task": plan.task,
                "context": context,
                "policy": name,
                "budget": budget,
                "samples": len(of_row),
                **means,
                "score_error": float(np.std([outcome.score for outcome in of_row]) / np.sqrt(len(of_row))),
                "page_size": plan.page_size,
                "dense_layers": plan.dense_layers,
                "seed": plan.seed,
                "device_tokens": plan.device_tokens,
                "answers": [outcome.answer for outcome in of_row],
            }

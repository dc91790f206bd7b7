"""What to evaluate: policies, budgets, contexts and the samples of a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import lcm
from typing import Any, NamedTuple

from kv.errors import KVError
from kv.memory.geometry import Geometry
from kv.memory.pool import FLOAT32
from kv.policies import policy_named
from kv.policies.base import LayerContext, Policy, Unit
from kv.policies.paged import Paged
from kv.policies.per_layer import PerLayer
from npusim.errors import UsageError
from npusim.evaluation.lanes import LaneKey
from reference_model.config import ModelConfig

FULL = "full"


class Cell(NamedTuple):
    """One sample of a plan: its length in tokens, and its number among the samples of that length."""

    context: int
    sample: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every policy with every budget on the same samples of every context length. Raises UsageError for a field with an
    impossible value.

    dense_layers    the first layers attend to all tokens with every policy (2 in Quest's evaluation); their traffic
                    counts
    seed            seed of the samples: equal seeds give equal samples
    page_size       tokens of a page, for policies that have no page size of their own
    device_tokens   tokens that the device holds for each layer and KV head, 0 for all. Reading others counts as moved
                    bytes.
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
        with _refusals_as_usage_errors():
            sizes = {spec: self._page_size_of(policy_named(spec)) for spec in self.policies}
        for name, least in (("samples", 1), ("page_size", 1), ("dense_layers", 0), ("seed", 0), ("device_tokens", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        for spec, size in sizes.items():
            if min(self.budgets) < size:
                raise UsageError(
                    f"a budget of {min(self.budgets)} tokens is below one page of {size} of {spec}: raise the budget "
                    "or use smaller pages"
                )
        if 0 < self.device_tokens < self.cache_page_size:
            raise UsageError(
                f"device_tokens is {self.device_tokens}: give 0 for all, or at least one page of {self.cache_page_size}"
            )

    def check_model(self, config: ModelConfig) -> None:
        """Raises UsageError if the plan asks for something that this model cannot do."""
        with _refusals_as_usage_errors():
            shape = config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim
            geometry = Geometry(*shape, self.cache_page_size)
            for key in self.lanes():
                key.policy.start(LayerContext(geometry, config.num_layers - 1, key.budget, FLOAT32.itemsize))
        for context in self.contexts:
            if not 1 <= context <= config.context_length:
                raise UsageError(
                    f"a context of {context} tokens: {self.model} can take from 1 to {config.context_length}"
                )
        if self.dense_layers > config.num_layers:
            raise UsageError(f"dense_layers is {self.dense_layers}: {self.model} has {config.num_layers} layers")

    @property
    def cells(self) -> list[Cell]:
        """All samples, with short contexts first, so that there are results early."""
        return [Cell(context, sample) for context in sorted(self.contexts) for sample in range(self.samples)]

    def lanes(self) -> dict[LaneKey, str]:
        """The lanes to decode, and the policy's name of each. FULL is left out, since Lanes adds the dense run."""
        page_size = self.cache_page_size
        policies = {name: self._policy(name, page_size) for name in self.policies if name != FULL}
        return {LaneKey(policy, budget): name for name, policy in policies.items() for budget in self.budgets}

    @property
    def cache_page_size(self) -> int:
        """Of the one cache that all policies share: pages of every policy divide it, so that each of them is one run of
        memory."""
        return lcm(*(self._page_size_of(policy_named(spec)) for spec in self.policies))

    def page_size_of(self, spec: str) -> int:
        """Tokens of a page of one of the policies."""
        return self._page_size_of(policy_named(spec))

    def _page_size_of(self, policy: Policy) -> int:
        return policy.own_page_size or self.page_size

    def _policy(self, name: str, cache_page_size: int) -> Policy:
        policy = policy_named(name)
        if policy.unit is Unit.PAGE and self._page_size_of(policy) != cache_page_size:
            policy = Paged(policy, self._page_size_of(policy))
        return PerLayer(policy, self.dense_layers) if self.dense_layers else policy

    def settings(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@contextmanager
def _refusals_as_usage_errors() -> Iterator[None]:
    """Raises UsageError in place of KVError, as for the other fields of a plan."""
    try:
        yield
    except KVError as error:
        raise UsageError(str(error)) from None

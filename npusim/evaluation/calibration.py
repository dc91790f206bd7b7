"""How queries and keys of a model vary on a text, and the projections of keys that follow from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies import settings_of
from kv.policies.base import LayerContext, Policy, State, Unit
from kv.policies.projection import ModelProjection, fit, read_file
from kv.sequence.paged_kv import PagedKV
from npusim.errors import UsageError
from reference_model.model import Model

CHUNK = 256
SINKS = 4
"""First positions, whose keys are unlike all others: they would decide the covariance."""
FEWEST_TOKENS = 256
"""Fewer positions than four a dimension leave a covariance to chance."""

FloatArray = NDArray[np.float32]


class MomentState(State):
    """Sums over queries and keys of one layer, in float64."""

    dense = True

    def __init__(self, context: LayerContext) -> None:
        super().__init__(context)
        g = context.geometry
        self._query = np.zeros((g.num_kv_heads, g.head_dim, g.head_dim))
        self._key = np.zeros((g.num_kv_heads, g.head_dim, g.head_dim))
        self._key_sum = np.zeros((g.num_kv_heads, g.head_dim))
        self._queries = self._keys = 0

    def append(self, start: int, keys: FloatArray) -> None:
        super().append(start, keys)
        rows = keys[max(0, SINKS - start) :].swapaxes(0, 1).astype(np.float64)  # [kv_heads, T, head_dim]
        self._key += rows.swapaxes(1, 2) @ rows
        self._key_sum += rows.sum(1)
        self._keys += rows.shape[1]

    def prefill(self, q: FloatArray) -> None:
        g = self.geometry
        rows = q.reshape(len(q), g.num_kv_heads, g.group, g.head_dim).transpose(1, 0, 2, 3)
        rows = rows.reshape(g.num_kv_heads, -1, g.head_dim).astype(np.float64)
        self._query += rows.swapaxes(1, 2) @ rows
        self._queries += rows.shape[1]

    @property
    def query_moment(self) -> NDArray[np.float64]:
        """E[q q'] over the query heads of each KV head: [kv_heads, head_dim, head_dim]."""
        return self._query / self._queries

    @property
    def key_covariance(self) -> NDArray[np.float64]:
        """Of each KV head: [kv_heads, head_dim, head_dim]."""
        mean = self._key_sum / self._keys
        return self._key / self._keys - mean[:, :, None] * mean[:, None, :]


@dataclass(frozen=True)
class Moments(Policy):
    """Attends to everything and counts."""

    name: ClassVar[str] = "moments"
    unit: ClassVar[Unit] = Unit.PAGE

    def start(self, context: LayerContext) -> State:
        return MomentState(context)


@dataclass(frozen=True)
class Calibrated:
    """The projection, and the share of the variance of q.k that each rank loses on the text, mean over heads and
    layers: lost[r - 1] for rank r."""

    projection: ModelProjection
    lost: tuple[float, ...]
    num_tokens: int


def calibrate(
    model: Model, tokens: Sequence[int], on_progress: Callable[[int], None] = lambda done: None
) -> Calibrated:
    """Fits the projections of a model's keys to a text. UsageError where the text is too short for it, or longer than
    the model's context.

    on_progress     is told how many tokens each step was"""
    c = model.config
    if not FEWEST_TOKENS <= len(tokens) <= c.context_length:
        raise UsageError(
            f"a text of {len(tokens)} tokens: give from {FEWEST_TOKENS} to {c.context_length}, this model's context"
        )
    geometry = Geometry(c.num_layers, c.num_heads, c.num_kv_heads, c.head_dim)
    store = PagedKV(PagedCache(geometry, geometry.pages(len(tokens))), "text", Moments())
    for part in np.array_split(np.asarray(tokens), -(-len(tokens) // CHUNK)):  # none of one token, which is a step
        model.hidden(part, store)
        on_progress(len(part))
    states = [state for layer in range(c.num_layers) if isinstance(state := store.state(layer), MomentState)]
    query, key, variances = fit(
        np.stack([state.query_moment for state in states]), np.stack([state.key_covariance for state in states])
    )
    lost = 1 - np.cumsum(variances, -1) / variances.sum(-1, keepdims=True)
    shares = np.maximum(lost.mean((0, 1)), 0)
    return Calibrated(ModelProjection(identity(model), query, key), tuple(map(float, shares)), len(tokens))


def identity(model: Model) -> str:
    """What tells a model from others: its shape, and a digest of its norms."""
    digest = hashlib.sha256(model.weights.final_norm.tobytes())
    for layer in model.weights.layers:
        digest.update(layer.attention_norm.tobytes() + layer.mlp_norm.tobytes())
    return f"{model.config.summary}, {digest.hexdigest()[:16]}"


def check_calibration(policy: Policy, model: Model) -> None:
    """Refuses a policy whose calibration is of another model. KVError where its file cannot be read."""
    path = settings_of(policy).get("calibration")
    if path and (theirs := read_file(path).model) != identity(model):
        raise UsageError(
            f"{path} was made for {theirs or 'no model that it names'}, this one is {identity(model)}: make one with "
            "npusim calibrate"
        )

"""The residual stream of a model, float32 or quantised, as float32 arrays.

It runs through the whole model, or through single layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reference_model.kv_store import FloatArray, IntArray, KVStore
from reference_model.model import Model
from reference_model.quant.arith import floats, patterns
from reference_model.quant.twin import TwinModel


class WholeModel:
    """Feeds chunks of one text to a model."""

    def __init__(self, model: Model | TwinModel) -> None:
        self._model = model
        self._kv = model.new_kv()

    def read(self, ids: IntArray) -> tuple[list[FloatArray], FloatArray]:
        """The stream before the first layer and after each, [L + 1] of [T, d], and logits [T, vocab]."""
        model = self._model
        states: list[list[FloatArray]] = [[] for _ in range(model.config.num_layers)]

        def tap(index: int, x: FloatArray) -> None:
            states[index].append(x)

        if isinstance(model, TwinModel):
            embedded, logits = floats(model.embed(ids)), floats(model.head(model.hidden(ids, self._kv, tap)))
        else:
            embedded, logits = model.embed(ids), model.head(model.hidden(ids, self._kv, tap))
        return [embedded, *(np.concatenate(parts) for parts in states)], logits


class SingleLayers:
    """Runs every layer of a model on a stream that is given.

    The cache has seen nothing else, or is `kv`, which is appended to."""

    def __init__(self, model: Model | TwinModel, kv: KVStore | None = None) -> None:
        self._model = model
        self._kv = model.new_kv() if kv is None else kv

    def read(self, states: Sequence[FloatArray]) -> list[FloatArray]:
        """What each layer makes of its own input.

        Takes the streams before each layer, [L] of [T, d]; further ones are not read."""
        model, kv, start = self._model, self._kv, self._kv.length
        positions = np.arange(start, start + len(states[0]))
        inputs = states[: model.config.num_layers]
        if isinstance(model, TwinModel):
            turns = model.ropes(positions)
            return [floats(model.layer(index, patterns(x), kv, positions, turns)) for index, x in enumerate(inputs)]
        ropes = model.ropes(positions)
        return [model.layer(index, x, [kv], positions, ropes) for index, x in enumerate(inputs)]

"""The ranges of activations, seen by the bf16 twin on a text: what int8 activations must be able to hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reference_model.errors import ModelError
from reference_model.kv_store import IntArray
from reference_model.quant.arith import Patterns, add, floats
from reference_model.quant.linear import Bf16Linear
from reference_model.quant.quantise import Calibration, Range
from reference_model.quant.twin import CHUNK, TwinModel

MATRICES = ("qkv", "output", "gate_up", "down")


@dataclass(eq=False)
class Watched:
    """A bf16 matrix that notes what goes in and comes out.

    counts        of each magnitude that an input had: a bf16 magnitude has 15 bits, so this is the exact distribution
    largest_out   magnitude pattern [out]
    """

    linear: Bf16Linear
    counts: np.ndarray
    largest_out: Patterns | np.uint16

    def product(self, x: Patterns) -> Patterns:
        result = self.linear.product(x)
        self._note(x, result)
        return result

    def add_to(self, residual: Patterns, x: Patterns) -> Patterns:
        return add(residual, self.product(x))

    def _note(self, x: Patterns, result: Patterns) -> None:
        self.counts += np.bincount((x & 0x7FFF).ravel(), minlength=1 << 15)
        self.largest_out = np.maximum(self.largest_out, (result & 0x7FFF).max(0))

    def range(self, percentile: float) -> Range:
        """`percentile` of the inputs' magnitudes is in reach; of the outputs all."""
        seen = np.cumsum(self.counts)
        largest_in = np.searchsorted(seen, percentile / 100 * seen[-1])
        return Range(float(floats(np.array([largest_in], np.uint16))[0]), floats(self.largest_out))


def calibrate(
    twin: TwinModel, token_ids: IntArray, percentile: float = 99.99, progress: Callable[[int], None] | None = None
) -> Calibration:
    """The ranges of all matrices inside the layers of `twin` (bf16) over a text, which is read in windows of the model's context.

    `percentile` of each matrix' input magnitudes will not saturate; 100 takes the largest. `progress` is told how many tokens were read,
    chunk by chunk. Raises ModelError for a percentile outside (0, 100].
    """
    if not 0 < percentile <= 100:
        raise ModelError(f"percentile {percentile}: it must be above 0 and at most 100")
    notes: dict[str, Watched] = {}
    layers = []
    for index, layer in enumerate(twin.layers):
        for name in MATRICES:
            notes[f"{index}.{name}"] = Watched(getattr(layer, name), np.zeros(1 << 15, np.int64), np.uint16(0))
        watched: dict[str, Any] = {name: notes[f"{index}.{name}"] for name in MATRICES}
        layers.append(replace(layer, **watched))
    listening = twin.with_layers(tuple(layers))
    kv = listening.new_kv()
    for start in range(0, len(token_ids), CHUNK):
        part = token_ids[start : start + CHUNK]
        if kv.length + len(part) > twin.config.context_length:
            kv.truncate(0)
        listening.hidden(part, kv)
        if progress is not None:
            progress(len(part))
    return {name: note.range(percentile) for name, note in notes.items()}

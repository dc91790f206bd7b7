"""The ranges of activations that the bf16 twin sees on a text. int8 activations must be able to hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reference_model.kv_store import IntArray
from reference_model.quant import ops
from reference_model.quant.arith import Patterns, floats
from reference_model.quant.linear import Bf16Linear
from reference_model.quant.quantise import Calibration, Range
from reference_model.quant.twin import CHUNK, TwinModel

MATRICES = ("qkv", "output", "gate_up")
"""The matrices that take int8 activations in w8a8."""


@dataclass(eq=False)
class Watched:
    """A bf16 matrix that notes the largest magnitude of each of its inputs [in] and outputs [out], as patterns."""

    linear: Bf16Linear
    largest_in: Patterns | np.uint16 = ops.ZERO
    largest_out: Patterns | np.uint16 = ops.ZERO

    def product(self, x: Patterns) -> Patterns:
        result = self.linear.product(x)
        self.largest_in = np.maximum(self.largest_in, (x & 0x7FFF).max(0))
        self.largest_out = np.maximum(self.largest_out, (result & 0x7FFF).max(0))
        return result

    def add_to(self, residual: Patterns, x: Patterns) -> Patterns:
        return ops.add(residual, self.product(x))

    @property
    def range(self) -> Range:
        """What was seen so far."""
        return Range(floats(self.largest_in), floats(self.largest_out))


def calibrate(twin: TwinModel, token_ids: IntArray, progress: Callable[[int], None] | None = None) -> Calibration:
    """The ranges of all matrices inside the layers of `twin` (bf16) over a text.

    The text is read in windows of the model's context. `progress` is told how many tokens were read, chunk by chunk."""
    notes: dict[str, Watched] = {}
    layers = []
    for index, layer in enumerate(twin.layers):
        for name in MATRICES:
            notes[f"{index}.{name}"] = Watched(getattr(layer, name))
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
    return {name: note.range for name, note in notes.items()}

"""Where a target goes wrong: its residual stream, as captured from a chip, against a reference, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reference_model.errors import ModelError
from reference_model.kv_store import FloatArray, IntArray, KVStore
from reference_model.model import Model, check_ids
from reference_model.quant.fidelity import sqnr
from reference_model.quant.streams import SingleLayers, WholeModel
from reference_model.quant.twin import TwinModel


@dataclass(frozen=True)
class LayerError:
    """The error of one layer's output, as dB of the reference over the difference.

    It is the lowest over the tokens, 150 where they are equal.

    entire   against the reference's own run: what all layers so far have added up to
    single   against what the reference's layer makes of the target's input: this layer's own error"""

    layer: int
    entire: float
    single: float


def compare_layers(
    reference: Model | TwinModel,
    token_ids: Sequence[int] | IntArray,
    states: Sequence[FloatArray],
    kv: KVStore | None = None,
) -> list[LayerError]:
    """The target's residual stream against a reference: a twin, whose layers a correct chip equals, or the float model.

    token_ids   all tokens of the sequence
    states      the target's stream of the last T of them, before the first layer and after each: [L + 1] of float32
                [T, d]
    kv          keys and values that the target holds of the tokens before those. It is appended to, and may prune as
                the target does. Not needed where T is all tokens

    Raises ModelError for states of another shape, and for a kv that does not hold just the tokens before."""
    ids, config = check_ids(token_ids, reference.config), reference.config
    shapes = {np.shape(state) for state in states}
    if len(states) != config.num_layers + 1 or len(shapes) != 1:
        raise ModelError(f"{len(states)} states of shapes {sorted(shapes)}: give {config.num_layers + 1} of one shape")
    count, width = next(iter(shapes))
    if width != config.hidden_size or not 1 <= count <= len(ids):
        raise ModelError(
            f"states of shape {count} x {width}: they must be 1 to {len(ids)} tokens of width {config.hidden_size}"
        )
    before = 0 if kv is None else kv.length
    if before + count != len(ids):
        raise ModelError(f"{before} tokens in kv and {count} in states are not the {len(ids)} tokens of the text")
    exact = [state[-count:] for state in WholeModel(reference).read(ids)[0]]
    own = SingleLayers(reference, kv).read(states)
    return [
        LayerError(
            index,
            float(sqnr(exact[index + 1], states[index + 1]).min()),
            float(sqnr(own[index], states[index + 1]).min()),
        )
        for index in range(config.num_layers)
    ]

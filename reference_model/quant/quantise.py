"""From a float32 model to its quantised twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.model import Model
from reference_model.quant import ops
from reference_model.quant.arith import F32
from reference_model.quant.linear import SMOOTHING, Bf16Linear, Int8ActivationLinear, Int8Linear, Linear
from reference_model.quant.twin import Norm, TwinLayer, TwinModel
from reference_model.weights import LayerWeights

Precision = Literal["bf16", "int8", "w8a8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True)
class Range:
    """What calibration saw of one matrix: the largest magnitude of each input [in] and output [out]."""

    largest_in: NDArray[np.float32]
    largest_out: NDArray[np.float32]


Calibration = dict[str, Range]
"""By matrix: `0.qkv`, `0.output`, `0.gate_up`, `1.qkv` ..."""


def quantise(
    model: Model, precision: str, calibration: Calibration | None = None, smoothing: float = SMOOTHING
) -> TwinModel:
    """The twin of `model` in `bf16`, `int8` (W8A16) or `w8a8`.

    w8a8 needs a calibration (reference_model.quant.calibrate). In w8a8, the embedding, the head and `down` stay
    W8A16. An int8 step for each of the vocabulary's logits is too coarse to choose a token by; and `down` in w8a8
    costs SmolLM2 two thirds of what w8a8 then costs in all. `smoothing`, from 0 to 1, is that of
    Int8ActivationLinear. Raises ModelError for another precision or smoothing, and for w8a8 without a calibration."""
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r} is not known: choose from {', '.join(PRECISIONS)}")
    if precision == "w8a8" and calibration is None:
        raise ModelError("precision w8a8 needs the ranges of activations: calibrate on a text first")
    if not 0 <= smoothing <= 1:
        raise ModelError(f"smoothing {smoothing}: it must be from 0 to 1")
    config, weights = model.config, model.weights
    outer = Bf16Linear if precision == "bf16" else Int8Linear
    embedding = outer.of(weights.embedding)
    head = embedding if weights.head is weights.embedding else outer.of(weights.head)

    def linear(name: str, weight: F32) -> Linear:
        if precision != "w8a8" or calibration is None:
            return outer.of(weight)
        seen = calibration[name]
        return Int8ActivationLinear.of(weight, seen.largest_in, seen.largest_out, smoothing)

    layers = tuple(
        _layer(config, layer, index, linear, outer.of(layer.down)) for index, layer in enumerate(weights.layers)
    )
    final_norm = ops.rms_norm_constants(weights.final_norm, config.norm_eps)
    return TwinModel(config, model.tokenizer, precision, layers, embedding=embedding, head=head, final_norm=final_norm)


def _layer(
    config: ModelConfig, layer: LayerWeights, index: int, linear: Callable[[str, F32], Linear], down: Linear
) -> TwinLayer:
    qkv, q_gain, k_gain = prepared_qkv(config, layer)

    def norm(gain: F32 | None) -> Norm | None:
        return None if gain is None else ops.rms_norm_constants(gain, config.norm_eps)

    return TwinLayer(
        attention_norm=ops.rms_norm_constants(layer.attention_norm, config.norm_eps),
        qkv=linear(f"{index}.qkv", qkv),
        output=linear(f"{index}.output", layer.output),
        mlp_norm=ops.rms_norm_constants(layer.mlp_norm, config.norm_eps),
        gate_up=linear(f"{index}.gate_up", layer.gate_up),
        down=down,
        q_norm=norm(q_gain),
        k_norm=norm(k_gain),
        post_attention_norm=norm(layer.post_attention_norm),
        post_mlp_norm=norm(layer.post_mlp_norm),
    )


def prepared_qkv(config: ModelConfig, layer: LayerWeights) -> tuple[F32, F32 | None, F32 | None]:
    """qkv, q_norm and k_norm, with queries and keys in halves layout and the queries scaled.

    The scale is in q_norm where there is one, else in the query rows."""
    dim, heads, kv_heads = config.head_dim, config.num_heads, config.num_kv_heads
    order = np.arange(dim)
    if config.rope_interleaved:
        order = np.concatenate([order[0::2], order[1::2]])
    weight = layer.qkv.copy()
    rows = weight.reshape(heads + 2 * kv_heads, dim, -1)
    rows[: heads + kv_heads] = rows[: heads + kv_heads, order]
    scale = np.float32(config.query_scale)
    if layer.q_norm is None or layer.k_norm is None:
        rows[:heads] *= scale
        return weight, None, None
    return weight, layer.q_norm[order] * scale, layer.k_norm[order]

"""The arrays of a model, all float32, and how they are read from a file one tensor at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.kv_store import FloatArray


@dataclass(frozen=True)
class LayerWeights:
    """The matrices and norms of one layer. Matrices are [out, in]: y = x @ matrix.T.

    qkv stacks the rows of queries, keys and values, gate_up those of gate and up. In memory they lie transposed, so
    that matrix.T is contiguous: BLAS reads it 1.5 times as fast when x is one token."""

    attention_norm: FloatArray
    qkv: FloatArray
    output: FloatArray
    mlp_norm: FloatArray
    gate_up: FloatArray
    down: FloatArray
    q_norm: FloatArray | None = None
    k_norm: FloatArray | None = None
    post_attention_norm: FloatArray | None = None
    post_mlp_norm: FloatArray | None = None


@dataclass(frozen=True)
class Weights:
    """All arrays of a model. head is the embedding itself when the two are tied."""

    embedding: FloatArray
    layers: tuple[LayerWeights, ...]
    final_norm: FloatArray
    head: FloatArray

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays, a tied head once."""
        arrays = [self.embedding, self.final_norm] + ([] if self.head is self.embedding else [self.head])
        return sum(a.nbytes for a in arrays) + sum(
            a.nbytes for layer in self.layers for a in vars(layer).values() if a is not None
        )


class TensorSource(Protocol):
    """A weight file, by llama.cpp's tensor names (`blk.0.attn_q.weight`)."""

    name: str

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """The tensor's shape; None when the file has no such tensor."""

    def read(self, tensor: str, out: FloatArray) -> None:
        """Fills `out`, which has the tensor's shape, with its values."""


def gather_weights(config: ModelConfig, source: TensorSource) -> Weights:
    """Reads all weights of a model.

    Raises ModelError for a missing tensor, and for a shape that contradicts the configuration, before anything is
    allocated for it."""
    d, vocab = config.hidden_size, config.vocab_size
    embedding = _stacked(source, ["token_embd.weight"], [(vocab, d)])
    layers = tuple(_gather_layer(config, source, f"blk.{index}.") for index in range(config.num_layers))
    final_norm = _stacked(source, ["output_norm.weight"], [(d,)])
    head = embedding if config.tied else _stacked(source, ["output.weight"], [(vocab, d)])
    return Weights(embedding, layers, final_norm, head)


def _gather_layer(config: ModelConfig, source: TensorSource, at: str) -> LayerWeights:
    d, ffn, dim = config.hidden_size, config.intermediate_size, config.head_dim
    q_dim, kv_dim = config.num_heads * dim, config.num_kv_heads * dim

    def stacked(names: str, *shapes: tuple[int, ...]) -> FloatArray:
        return _stacked(source, [f"{at}{name}.weight" for name in names.split()], list(shapes))

    return LayerWeights(
        attention_norm=stacked("attn_norm", (d,)),
        qkv=stacked("attn_q attn_k attn_v", (q_dim, d), (kv_dim, d), (kv_dim, d)),
        output=stacked("attn_output", (d, q_dim)),
        mlp_norm=stacked("ffn_norm", (d,)),
        gate_up=stacked("ffn_gate ffn_up", (ffn, d), (ffn, d)),
        down=stacked("ffn_down", (d, ffn)),
        q_norm=stacked("attn_q_norm", (dim,)) if config.qk_norm else None,
        k_norm=stacked("attn_k_norm", (dim,)) if config.qk_norm else None,
        post_attention_norm=stacked("post_attention_norm", (d,)) if config.post_norms else None,
        post_mlp_norm=stacked("post_ffw_norm", (d,)) if config.post_norms else None,
    )


def _stacked(source: TensorSource, names: list[str], shapes: list[tuple[int, ...]]) -> FloatArray:
    for name, shape in zip(names, shapes, strict=True):
        found = source.shape(name)
        if found is None:
            raise ModelError(
                f"{source.name} has no tensor {name}, which its configuration calls for: the file is incomplete"
            )
        if found != shape:
            raise ModelError(
                f"tensor {name} of {source.name} has shape {found}, its configuration says {shape}: the file is damaged"
            )
    rows = sum(shape[0] for shape in shapes)
    out = np.empty((*shapes[0][1:], rows), np.float32).T
    start = 0
    for name, shape in zip(names, shapes, strict=True):
        source.read(name, out[start : start + shape[0]])
        start += shape[0]
    return out

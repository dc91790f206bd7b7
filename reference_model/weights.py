"""The arrays of a model, all float32, and how they are read from a file a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np

from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.kv_store import FloatArray


@dataclass(frozen=True)
class LayerWeights:
    """The matrices [out, in] and norms [in] of one layer. qkv holds the rows of queries, keys and values one after
    another, gate_up those of gate and up."""

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
    """All arrays of a model.

    embedding [vocab, d] holds the vectors of the tokens; head is the embedding itself when the two are tied."""

    embedding: FloatArray
    layers: tuple[LayerWeights, ...]
    final_norm: FloatArray
    head: FloatArray

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays, a tied head once."""
        outer = self.embedding.nbytes + self.final_norm.nbytes
        outer += 0 if self.head is self.embedding else self.head.nbytes
        return outer + sum(a.nbytes for layer in self.layers for a in vars(layer).values() if a is not None)


class TensorSource(Protocol):
    """A weight file, by llama.cpp's tensor names (`blk.0.attn_q.weight`)."""

    name: str

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """The tensor's shape; None when the file has no such tensor."""

    def rows(self, tensor: str) -> Iterator[FloatArray]:
        """The values of the tensor [rows, in], some rows at a time; of a vector [n], some of its elements."""


def gather_weights(config: ModelConfig, source: TensorSource) -> Weights:
    """Reads all weights of a model.

    Raises ModelError for a missing tensor, and for a shape that contradicts the configuration, before anything is
    allocated for it."""
    d, vocab = config.hidden_size, config.vocab_size
    embedding = _matrix(source, "", {"token_embd": vocab}, d)
    layers = tuple(_gather_layer(config, source, f"blk.{index}.") for index in range(config.num_layers))
    final_norm = _vector(source, "output_norm", d)
    head = embedding if config.tied else _matrix(source, "", {"output": vocab}, d)
    return Weights(embedding, layers, final_norm, head)


def _gather_layer(config: ModelConfig, source: TensorSource, at: str) -> LayerWeights:
    d, ffn, dim = config.hidden_size, config.intermediate_size, config.head_dim
    q_dim, kv_dim = config.num_heads * dim, config.num_kv_heads * dim
    norms, more = config.qk_norm, config.post_norms
    return LayerWeights(
        attention_norm=_vector(source, f"{at}attn_norm", d),
        qkv=_matrix(source, at, {"attn_q": q_dim, "attn_k": kv_dim, "attn_v": kv_dim}, d),
        output=_matrix(source, at, {"attn_output": d}, q_dim),
        mlp_norm=_vector(source, f"{at}ffn_norm", d),
        gate_up=_matrix(source, at, {"ffn_gate": ffn, "ffn_up": ffn}, d),
        down=_matrix(source, at, {"ffn_down": d}, ffn),
        q_norm=_vector(source, f"{at}attn_q_norm", dim) if norms else None,
        k_norm=_vector(source, f"{at}attn_k_norm", dim) if norms else None,
        post_attention_norm=_vector(source, f"{at}post_attention_norm", d) if more else None,
        post_mlp_norm=_vector(source, f"{at}post_ffw_norm", d) if more else None,
    )


def _matrix(source: TensorSource, at: str, widths: dict[str, int], depth: int) -> FloatArray:
    """The tensors [width, depth] of these names, one after another: [sum of widths, depth]."""
    names = [_checked(source, f"{at}{name}", (width, depth)) for name, width in widths.items()]
    matrix = np.empty((sum(widths.values()), depth), np.float32)
    start = 0
    for part in chain.from_iterable(map(source.rows, names)):
        matrix[start : start + len(part)] = part
        start += len(part)
    return matrix


def _vector(source: TensorSource, name: str, size: int) -> FloatArray:
    return np.concatenate(list(source.rows(_checked(source, name, (size,)))))


def _checked(source: TensorSource, name: str, shape: tuple[int, ...]) -> str:
    """The tensor's full name, when it is there and has this shape."""
    tensor = f"{name}.weight"
    found = source.shape(tensor)
    if found is None:
        raise ModelError(
            f"{source.name} has no tensor {tensor}, which its configuration calls for: the file is incomplete"
        )
    if found != shape:
        raise ModelError(
            f"tensor {tensor} of {source.name} has shape {found}, its configuration says {shape}: the file is damaged"
        )
    return tensor

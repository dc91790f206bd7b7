"""What distinguishes one model from another: a frozen instance of numbers and switches, never a subclass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from reference_model.errors import ModelError

MOST, MOST_LAYERS = 1 << 24, 1 << 17
"""Beyond any model; a size from a damaged file costs no memory."""


@dataclass(frozen=True)
class ModelConfig:
    """A decoder of the Llama family or a Gemma 3.

    rope_interleaved   RoPE turns the pairs (0, 1), (2, 3) ... as llama2.c and llama.cpp's `llama` files lay them out;
                       otherwise (0, h), (1, h + 1) ... with h = head_dim / 2, as the hub's files do
    query_scale        queries are multiplied by it before the dot product
    qk_norm            RMSNorm over each head's query and key before RoPE (Gemma 3)
    post_norms         RMSNorm after attention and after the MLP too, before the residual is added (Gemma 3)
    sliding_layers     for each layer, whether it sees only the last sliding_window positions and turns by
                       local_rope_theta"""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_interleaved: bool = False
    query_scale: float = 0.0
    activation: Literal["silu", "gelu_tanh"] = "silu"
    tied: bool = True
    qk_norm: bool = False
    post_norms: bool = False
    embedding_scale: float = 1.0
    sliding_window: int = 0
    sliding_layers: tuple[bool, ...] = ()
    local_rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        sizes = (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "context_length",
        )
        for name in sizes:
            most = MOST_LAYERS if name == "num_layers" else MOST
            if not 1 <= getattr(self, name) <= most:
                raise ModelError(f"{name} is {getattr(self, name)}: a model needs a value from 1 to {most}")
        for name in ("norm_eps", "rope_theta", "local_rope_theta", "query_scale", "embedding_scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ModelError(f"{name} is {getattr(self, name)}: a model needs a finite number from 0 up")
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"{self.num_heads} query heads cannot share {self.num_kv_heads} KV heads: the second must "
                "divide the first"
            )
        if self.head_dim % 2:
            raise ModelError(f"head_dim is {self.head_dim}: RoPE turns pairs, so it must be even")
        if not self.sliding_layers:
            object.__setattr__(self, "sliding_layers", (False,) * self.num_layers)
        if len(self.sliding_layers) != self.num_layers:
            raise ModelError(
                f"{len(self.sliding_layers)} layers are said to slide or not, the model has "
                f"{self.num_layers}: name each"
            )
        if not self.query_scale:
            object.__setattr__(self, "query_scale", self.head_dim**-0.5)

    @property
    def group_size(self) -> int:
        """Query heads that share a KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def num_params(self) -> int:
        """Parameters in the matrices and in the two norms that every layer has."""
        q_dim, kv_dim = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        layer = self.hidden_size * (2 * q_dim + 2 * kv_dim + 3 * self.intermediate_size + 2)
        heads = 1 if self.tied else 2
        return self.num_layers * layer + self.hidden_size * (heads * self.vocab_size + 1)

    @property
    def summary(self) -> str:
        """The shape in words."""
        heads = f"{self.num_heads} query and {self.num_kv_heads} KV heads of {self.head_dim}"
        return (
            f"{self.num_params:,} parameters, {self.num_layers} layers of {self.hidden_size}, {heads}, "
            f"vocabulary {self.vocab_size:,}, context {self.context_length:,}"
        )

    @property
    def kv_values_per_token(self) -> int:
        """Keys and values of one token in all layers, in numbers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim


def sliding_pattern(num_layers: int, every: int) -> tuple[bool, ...]:
    """All layers slide except every `every`-th one."""
    return tuple((layer + 1) % every != 0 for layer in range(min(num_layers, MOST_LAYERS + 1)))


def gemma3_config(common: dict[str, Any], window: int, sliding_layers: tuple[bool, ...]) -> ModelConfig:
    """What all Gemma 3 have in common (arXiv:2503.19786, section 2), with the numbers in which they differ."""
    return ModelConfig(
        **common,
        activation="gelu_tanh",
        qk_norm=True,
        post_norms=True,
        embedding_scale=common["hidden_size"] ** 0.5,
        sliding_window=window,
        sliding_layers=sliding_layers,
    )

"""Trained parameters as a model directory in the hub's layout, which other programs read too."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.train.checkpoint import saving
from reference_model.train.network import Params

END_OF_TEXT_ID = 0


def save_model(directory: Path, params: Params, config: ModelConfig) -> None:
    """Writes config.json and model.safetensors (bfloat16, rounded to nearest)."""
    description = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "eos_token_id": END_OF_TEXT_ID,
    }
    with saving(directory / "config.json") as partial:
        partial.write_text(json.dumps(description, indent=1) + "\n")
    with saving(directory / "model.safetensors") as partial:
        save_file(
            {name: value.astype(ml_dtypes.bfloat16) for name, value in params.items()},
            partial,
            metadata={"format": "pt"},
        )


def load_params(path: Path, like: Params) -> Params:
    """The parameters of a model that save_model wrote, in float32.

    Raises ModelError when they do not have the shapes of `like`."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise ModelError(f"model {path} cannot be read ({error}): give a directory that a training run made") from None
    if {name: value.shape for name, value in tensors.items()} != {name: value.shape for name, value in like.items()}:
        raise ModelError(
            f"model {path} has other sizes than this run's: start from it with the sizes that it was trained with"
        )
    return {name: tensors[name].astype(np.float32) for name in like}

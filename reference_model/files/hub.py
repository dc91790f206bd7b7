"""A model directory in the hub's layout: config.json, tokenizer.json and one or more .safetensors files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy, which safetensors hands out
import numpy as np
from safetensors import SafetensorError, safe_open

from reference_model.chat import chat_style
from reference_model.config import ModelConfig, gemma3_config, sliding_pattern
from reference_model.errors import ModelError
from reference_model.kv_store import FloatArray
from reference_model.tokenizer import Tokenizer, from_json
from reference_model.weights import Weights, gather_weights

READ_ROWS = 4096
MAX_JSON_BYTES = 16 << 20
"""Of a configuration; that of a tokenizer has some ten thousand."""

LLAMA_NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA_NAMES = LLAMA_NAMES | {
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def load_hub(directory: Path) -> tuple[ModelConfig, Weights, Tokenizer]:
    """A model from a directory. Raises ModelError for a missing or damaged file, and for an unknown architecture."""
    text = _json(directory / "config.json")
    kind = text.get("model_type")
    if kind not in ("llama", "gemma3_text"):
        raise ModelError(f"{directory} holds the architecture {kind!r}: this program knows llama and gemma3_text")
    source = HubTensors(directory, gemma=kind == "gemma3_text")
    try:
        config = _config(text, tied=source.shape("output.weight") is None)
        ends = _ids(text.get("eos_token_id"))
        begins = next(iter(_ids(text.get("bos_token_id"))), None)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelError(
            f"{directory / 'config.json'} lacks a number or has a bad one ({error}): use the model's own file"
        ) from None
    weights = gather_weights(config, source)
    return config, weights, _tokenizer(directory, begins, ends, add_bos=kind == "gemma3_text")


def _config(text: dict[str, Any], tied: bool) -> ModelConfig:
    if text.get("attention_bias") or text.get("mlp_bias"):
        raise ModelError(
            "the configuration has biases in its linear layers, which is not supported: use a model without"
        )
    heads = int(text["num_attention_heads"])
    common: dict[str, Any] = {
        "vocab_size": int(text["vocab_size"]),
        "hidden_size": int(text["hidden_size"]),
        "intermediate_size": int(text["intermediate_size"]),
        "num_layers": int(text["num_hidden_layers"]),
        "num_heads": heads,
        "num_kv_heads": int(text.get("num_key_value_heads") or heads),
        "head_dim": int(text.get("head_dim") or int(text["hidden_size"]) // heads),
        "context_length": int(text["max_position_embeddings"]),
        "norm_eps": float(text.get("rms_norm_eps", 1e-6)),
        "rope_theta": _rope_theta(text, "full_attention", "rope_theta", 10_000.0),
        "tied": tied,
    }
    if text["model_type"] == "llama":
        return ModelConfig(**common)
    common["local_rope_theta"] = _rope_theta(text, "sliding_attention", "rope_local_base_freq", 10_000.0)
    common["query_scale"] = float(text.get("query_pre_attn_scalar") or common["head_dim"]) ** -0.5
    if layer_types := text.get("layer_types"):
        sliding = tuple(kind == "sliding_attention" for kind in layer_types)
    else:
        sliding = sliding_pattern(common["num_layers"], int(text.get("sliding_window_pattern") or 6))
    return gemma3_config(common, int(text["sliding_window"]), sliding)


def _rope_theta(text: dict[str, Any], layer_type: str, older_key: str, default: float) -> float:
    """RoPE's theta for layers of `layer_type`.

    Files of transformers 5 hold rope_parameters, by layer type where there are two; older ones have a key for each."""
    parameters = _object(text, "rope_parameters")
    if layer_type in parameters:
        parameters = _object(parameters, layer_type)
    scaling = _object(text, "rope_scaling") or parameters
    if (scaling.get("rope_type") or scaling.get("type") or "default") != "default":
        raise ModelError(
            f"the configuration scales RoPE ({str(scaling)[:80]}), which is not supported: use a model without"
        )
    return float(parameters.get("rope_theta") or text.get(older_key) or default)


def _object(text: dict[str, Any], key: str) -> dict[str, Any]:
    value = text.get(key) or {}
    if not isinstance(value, dict):
        raise ValueError(f"{key} is {str(value)[:40]}, where an object belongs")
    return value


class HubTensors:
    """Tensors of all .safetensors files of a directory, by llama.cpp's names.

    The library keeps the files memory-mapped."""

    def __init__(self, directory: Path, gemma: bool) -> None:
        self.name = str(directory)
        self._gemma = gemma
        self._files: dict[str, Any] = {}
        for path in sorted(directory.glob("*.safetensors")):
            try:
                file = safe_open(path, framework="numpy")
            except (OSError, SafetensorError, ValueError) as error:
                raise ModelError(
                    f"{path} cannot be read as safetensors ({error}): the file is damaged or truncated"
                ) from None
            self._files |= dict.fromkeys(file.keys(), file)
        if not self._files:
            raise ModelError(f"{directory} has no tensors in .safetensors files: give a directory with a whole model")

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        name = self._hub_name(tensor)
        return tuple(self._files[name].get_slice(name).get_shape()) if name in self._files else None

    def rows(self, tensor: str) -> Iterator[FloatArray]:
        name = self._hub_name(tensor)
        stored = self._files[name].get_slice(name)
        count = stored.get_shape()[0]
        for start in range(0, count, READ_ROWS):
            try:
                values = stored[start : min(start + READ_ROWS, count)].astype(np.float32)
            except (SafetensorError, AttributeError, TypeError, ValueError) as error:
                raise ModelError(
                    f"tensor {name} of {self.name} is {stored.get_dtype()}, which NumPy does not know ({error}): use a "
                    "model in float32, float16 or bfloat16"
                ) from None
            yield values + 1 if self._gemma and "norm" in name else values  # Gemma's files hold a gain less one

    def _hub_name(self, tensor: str) -> str:
        if tensor == "output.weight":
            return "lm_head.weight"
        *prefix, name, suffix = tensor.split(".")
        prefix = ["layers", prefix[1]] if prefix else []
        return ".".join(["model", *prefix, (GEMMA_NAMES if self._gemma else LLAMA_NAMES)[name], suffix])


def _ids(value: Any) -> set[int]:
    """Token ids that stand in a configuration as nothing, a number or a list of numbers."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int and token >= 0 for token in ids):
        raise ValueError(f"{str(value)[:40]} where token ids belong")
    return set(ids)


def _tokenizer(directory: Path, bos: int | None, ends: set[int], add_bos: bool) -> Tokenizer:
    backend = from_json(directory / "tokenizer.json")
    extra = directory / "tokenizer_config.json"
    details = _json(extra) if extra.is_file() else {}
    template = details.get("chat_template") or ""
    chat = chat_style(template if isinstance(template, str) else "", list(backend.get_vocab()))
    if chat and (end := backend.token_to_id(chat.end_of_turn)) is not None:
        ends = ends | {end}
    return Tokenizer(backend, bos, tuple(sorted(ends)), bool(details.get("add_bos_token", add_bos)), chat)


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes, at most {MAX_JSON_BYTES} are possible")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}): a model's directory needs it as JSON") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a {type(value).__name__}: it must be a JSON object")
    return value

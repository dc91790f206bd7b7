"""llama.cpp's GGUF: architecture, tokenizer and quantised tensors in one file.

It is memory-mapped and dequantised by the `gguf` library. A file is untrusted: whatever the library fails on becomes
one sentence, and no array is allocated before the sizes have been compared."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf.quants import dequantize

from reference_model.chat import chat_style
from reference_model.config import ModelConfig, gemma3_config, sliding_pattern
from reference_model.errors import ModelError
from reference_model.files.gguf_header import GgufHeader, TensorPlace, read_header
from reference_model.kv_store import FloatArray
from reference_model.tokenizer import Tokenizer, Vocabulary, byte_level, sentence_piece
from reference_model.weights import Weights, gather_weights

READ_BYTES = 1 << 18
GEMMA3_PATTERN = 6
# What the library raises when counts, offsets or types in a file are wrong.
DAMAGE = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    AttributeError,
    UnicodeDecodeError,
    NotImplementedError,
)


def load_gguf(path: Path) -> tuple[ModelConfig, Weights, Tokenizer]:
    """A model from a .gguf file.

    Raises ModelError when the file is damaged or truncated, or its architecture is unknown."""
    try:
        header = read_header(path)
        fields = Fields(path.name, header)
        config = fields.config()
        tokenizer = fields.tokenizer(config.vocab_size)
        source = GgufTensors(path, header.tensors)
    except (OSError, *DAMAGE) as error:
        raise _damaged(path, error) from None
    del header, fields  # the strings of a vocabulary take as much memory as a layer
    return config, gather_weights(config, source), tokenizer


def _damaged(path: Path, error: BaseException) -> ModelError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelError(f"{path} cannot be read as GGUF ({reason}): the file is damaged, truncated or of another kind")


class GgufTensors:
    """The tensors of a file, dequantised into place a few rows at a time.

    Pages that were read are given back at once."""

    def __init__(self, path: Path, places: dict[str, TensorPlace]) -> None:
        self.name = path.name
        self._places = places
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(self._map, np.uint8)

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        place = self._places.get(tensor)
        return None if place is None else place.shape

    def rows(self, tensor: str) -> Iterator[FloatArray]:
        place = self._places[tensor]
        count = place.shape[0] if len(place.shape) > 1 else 1
        step = max(READ_BYTES // place.row_bytes, 1)
        for start in range(0, count, step):
            part = min(step, count - start)
            at = place.offset + start * place.row_bytes
            quantised = self._bytes[at : at + part * place.row_bytes].reshape(part, place.row_bytes)
            try:
                values = dequantize(_typed(quantised, place.kind), place.kind)
            except NotImplementedError:
                raise ModelError(
                    f"tensor {tensor} of {self.name} is {place.kind.name}, which the gguf library cannot dequantise"
                ) from None
            yield values.reshape(-1, *place.shape[1:])
        self._map.madvise(mmap.MADV_DONTNEED)


def _typed(raw: np.ndarray, kind: Any) -> np.ndarray:
    """The library takes floats as floats and every quantised type as bytes."""
    return raw.view({"F32": np.float32, "F16": np.float16}.get(kind.name, np.uint8))


class Fields:
    """The key-value pairs of a file, checked as they are read."""

    def __init__(self, name: str, header: GgufHeader) -> None:
        self.name = name
        self._header = header
        self.arch = self._get("general.architecture", str)
        if self.arch not in ("llama", "gemma3"):
            raise ModelError(f"{name} holds the architecture {self.arch!r}: this program knows llama and gemma3")

    def config(self) -> ModelConfig:
        def number(key: str, default: int | None = None) -> int:
            return int(self._get(f"{self.arch}.{key}", int, default))

        def real(key: str, default: float) -> float:
            return float(self._get(f"{self.arch}.{key}", (int, float), default))

        tensors = self._header.tensors
        if "rope_freqs.weight" in tensors or f"{self.arch}.rope.scaling.type" in self._header.fields:
            raise ModelError(
                f"{self.name} scales its RoPE frequencies, which is not supported: use a model without RoPE scaling"
            )
        if "token_embd.weight" not in tensors:
            raise ModelError(f"{self.name} has no tensor token_embd.weight: the file is incomplete")
        heads, layers = number("attention.head_count"), number("block_count")
        head_dim = number("attention.key_length", number("embedding_length") // max(heads, 1))
        common: dict[str, Any] = {
            "vocab_size": tensors["token_embd.weight"].shape[0],
            "hidden_size": number("embedding_length"),
            "intermediate_size": number("feed_forward_length"),
            "num_layers": layers,
            "num_heads": heads,
            "num_kv_heads": number("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "context_length": number("context_length"),
            "norm_eps": real("attention.layer_norm_rms_epsilon", 1e-5),
            "tied": "output.weight" not in tensors,
        }
        if self.arch == "llama":
            return ModelConfig(**common, rope_theta=real("rope.freq_base", 10_000.0), rope_interleaved=True)
        common["rope_theta"] = real("rope.freq_base", 1_000_000.0)
        return gemma3_config(common, number("attention.sliding_window"), sliding_pattern(layers, GEMMA3_PATTERN))

    def tokenizer(self, vocab_size: int) -> Tokenizer:
        kind = self._get("tokenizer.ggml.model", str)
        pieces = self._get("tokenizer.ggml.tokens", list)
        if len(pieces) != vocab_size:
            raise ModelError(f"{self.name} names {len(pieces)} tokens but embeds {vocab_size}: the file is damaged")
        types = self._get("tokenizer.ggml.token_type", list, [1] * len(pieces))
        if kind == "gpt2":
            backend = byte_level(
                Vocabulary(pieces, types, [], self._get("tokenizer.ggml.merges", list)),
                self._get("tokenizer.ggml.pre", str, "default"),
            )
        elif kind == "llama":
            scores = self._get("tokenizer.ggml.scores", list)
            backend = sentence_piece(
                Vocabulary(pieces, types, scores, []), self._get("tokenizer.ggml.add_space_prefix", bool, True)
            )
        else:
            raise ModelError(f"{self.name} has a tokenizer of kind {kind!r}: this program knows gpt2 and llama")
        bos, eos = (self._get(f"tokenizer.ggml.{name}_token_id", int, -1) for name in ("bos", "eos"))
        chat = chat_style(self._get("tokenizer.chat_template", str, ""), pieces)
        ends = {eos} | ({pieces.index(chat.end_of_turn)} if chat else set())
        add_bos = self._get("tokenizer.ggml.add_bos_token", bool, kind == "llama")
        return Tokenizer(backend, bos if bos >= 0 else None, tuple(sorted(ends - {-1})), add_bos, chat)

    def _get(self, key: str, kind: Any, default: Any = None) -> Any:
        value = self._header.fields.get(key, default)
        if value is None:
            raise ModelError(f"{self.name} has no field {key}: the file is incomplete")
        if not isinstance(value, kind):
            raise ModelError(f"field {key} of {self.name} is a {type(value).__name__}: the file is damaged")
        return value

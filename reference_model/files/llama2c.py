"""llama2.c's legacy checkpoint: seven int32, then float32 arrays in a fixed order.

The vocabulary is in a tokenizer.bin beside it (or <name>.tokenizer.bin): int32 length of the longest piece, then for
each piece float32 score, int32 size, bytes. Source: karpathy/llama2.c, run.c, memory_map_weights."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reference_model.config import ModelConfig
from reference_model.errors import ModelError
from reference_model.kv_store import FloatArray
from reference_model.tokenizer import CONTROL, Tokenizer, Vocabulary, sentence_piece
from reference_model.weights import Weights, gather_weights

HEADER = struct.Struct("<7i")
BOS, EOS, FIRST_BYTE = 1, 2, 3


def load_llama2c(path: Path) -> tuple[ModelConfig, Weights, Tokenizer]:
    """A model from a .bin checkpoint. Raises ModelError when the file's size is not what its header says."""
    with open(path, "rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        raise ModelError(
            f"{path} has {len(head)} bytes: a llama2.c checkpoint begins with {HEADER.size} bytes of header"
        )
    dim, hidden, layers, heads, kv_heads, vocab, context = HEADER.unpack(head)
    if heads < 1 or dim % heads:
        raise ModelError(
            f"{path} says {dim} dimensions in {heads} heads: the file is damaged or not a legacy llama2.c checkpoint"
        )
    config = ModelConfig(
        vocab_size=abs(vocab),
        hidden_size=dim,
        intermediate_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=dim // heads,
        context_length=context,
        rope_interleaved=True,
        tied=vocab > 0,
    )
    source = Llama2cTensors(path, config)
    return config, gather_weights(config, source), _tokenizer(path, config.vocab_size)


class Llama2cTensors:
    """The tensors of a checkpoint. The sizes in the header say where each begins."""

    def __init__(self, path: Path, config: ModelConfig) -> None:
        self.name = path.name
        d, ffn, q_dim, kv_dim = (
            config.hidden_size,
            config.intermediate_size,
            config.hidden_size,
            config.num_kv_heads * config.head_dim,
        )
        per_layer: list[tuple[str, tuple[int, ...]]] = [
            ("attn_norm", (d,)),
            ("attn_q", (q_dim, d)),
            ("attn_k", (kv_dim, d)),
            ("attn_v", (kv_dim, d)),
            ("attn_output", (d, q_dim)),
            ("ffn_norm", (d,)),
            ("ffn_gate", (ffn, d)),
            ("ffn_down", (d, ffn)),
            ("ffn_up", (ffn, d)),
        ]
        layers, num_bytes = config.num_layers, path.stat().st_size
        before: list[tuple[str, tuple[int, ...]]] = [("token_embd", (config.vocab_size, d))]
        behind = [("output_norm", (d,)), ("rope tables", (config.context_length, config.head_dim))]
        behind += [] if config.tied else [("output", (config.vocab_size, d))]
        needed = sum(math.prod(shape) for _, shape in before + behind) + layers * sum(
            math.prod(shape) for _, shape in per_layer
        )
        if num_bytes != HEADER.size + 4 * needed:  # compared with the file before a list of the stated length is made
            raise ModelError(
                f"{path} has {num_bytes} bytes, its header calls for {HEADER.size + 4 * needed}: the file is damaged "
                "or truncated"
            )
        inside = [(f"blk.{layer}.{name}", shape) for name, shape in per_layer for layer in range(layers)]
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}
        at = HEADER.size // 4
        for name, shape in before + inside + behind:
            self._places[f"{name}.weight"] = (at, shape)
            at += math.prod(shape)
        self._values = np.memmap(path, "<f4", "r")

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        return self._places[tensor][1] if tensor in self._places else None

    def rows(self, tensor: str) -> Iterator[FloatArray]:
        at, shape = self._places[tensor]
        yield self._values[at : at + math.prod(shape)].reshape(shape)


def _tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    beside = [path.with_suffix(".tokenizer.bin"), path.with_name("tokenizer.bin")]
    found = next((candidate for candidate in beside if candidate.is_file()), None)
    if found is None:
        raise ModelError(f"{path} has no vocabulary beside it: put its llama2.c tokenizer.bin at {beside[1]}")
    data = found.read_bytes()
    pieces, scores, at = [], [], 4
    try:
        for _ in range(vocab_size):
            score, size = struct.unpack_from("<fi", data, at)
            piece = data[at + 8 : at + 8 + size]
            if size < 0 or len(piece) < size:
                raise ValueError("a piece ends after the file does")
            pieces.append(piece.decode("utf-8").replace(" ", "▁"))
            scores.append(score)
            at += 8 + size
    except (struct.error, ValueError) as error:
        raise ModelError(f"{found} is not a tokenizer.bin of {vocab_size} pieces ({error}): export it again") from None
    pieces[:FIRST_BYTE] = ["<unk>", "<s>", "</s>"][: len(pieces)]
    types = [CONTROL if index < FIRST_BYTE else 1 for index in range(vocab_size)]
    return Tokenizer(
        sentence_piece(Vocabulary(pieces, types, scores, []), space_prefix=True), BOS, (BOS, EOS), add_bos=True
    )

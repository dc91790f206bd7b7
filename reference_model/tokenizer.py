"""Text to token ids and back, by the `tokenizers` library, whatever file the vocabulary came from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from reference_model.chat import ChatStyle
from reference_model.errors import ModelError

CONTROL, USER_DEFINED = 3, 4  # llama.cpp's llama_token_type
MAX_PIECE = 512
"""Characters of a piece. Looking for the merges of one takes the square of its length; real ones have up to 128."""


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer and the model's conventions.

    `backend` does the work. bos is put before a text when add_bos. A generation stops at one of eos. chat is how
    turns are written."""

    backend: tokenizers.Tokenizer
    bos: int | None = None
    eos: tuple[int, ...] = ()
    add_bos: bool = False
    chat: ChatStyle | None = None

    def __repr__(self) -> str:
        ends = ", ".join(map(str, self.eos)) or "none"
        begins = self.bos if self.add_bos else "none"
        return f"<Tokenizer: {self.vocab_size:,} tokens, a text begins with {begins} and ends with {ends}>"

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of a text. `special`: the beginning-of-text token goes first, where the model expects one."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return [self.bos, *ids] if special and self.add_bos and self.bos is not None else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        text: str = self.backend.decode(list(ids))
        return text

    def pieces(self) -> list[bytes]:
        """What each token adds to a text, by id; special tokens add nothing. For programs without this library."""
        added = self.backend.get_added_tokens_decoder()
        kind = json.loads(self.backend.to_str())["decoder"]
        bytewise = bool(kind) and kind["type"] == "ByteLevel"
        tokens = [self.backend.id_to_token(index) or "" for index in range(self.vocab_size)]
        return [
            b"" if index in added and added[index].special else _bytes_of(token, bytewise and index not in added)
            for index, token in enumerate(tokens)
        ]

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        size: int = self.backend.get_vocab_size()
        return size


def _bytes_of(token: str, bytewise: bool) -> bytes:
    """Of GPT-2's alphabet, in which each byte is a letter, or of SentencePiece's, with <0x0A> for a byte."""
    if bytewise:
        return bytes(_BYTE_OF[letter] for letter in token if letter in _BYTE_OF)
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode("utf-8", "replace")


def _gpt2_alphabet() -> dict[str, int]:
    """Letter -> byte. Bytes that can be seen stand for themselves; the others follow from letter 256 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF = _gpt2_alphabet()


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF or a SentencePiece file says.

    Pieces by id, their scores or the list of merges, and llama.cpp's type of each piece."""

    pieces: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]


def from_json(path: Path) -> tokenizers.Tokenizer:
    """A tokenizer.json of the hub."""
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(
            f"tokenizer {path} cannot be read ({error}): it must be a tokenizer.json of the tokenizers library"
        ) from None


def byte_level(vocabulary: Vocabulary, pre: str) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE.

    `pre` is llama.cpp's name for how text is split first. Raises ModelError for a name that is not known here."""
    splits = {"smollm": [pre_tokenizers.Digits(individual_digits=True)], "gpt-2": [], "default": []}
    if pre not in splits:
        raise ModelError(
            f"text splitting {pre!r} is not supported: use a model with one of {', '.join(splits)}, or its "
            "tokenizer.json"
        )
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in vocabulary.merges)]
    backend = _bpe(vocabulary, merges)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits[pre], pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    return _with_added(backend, vocabulary)


def sentence_piece(vocabulary: Vocabulary, space_prefix: bool) -> tokenizers.Tokenizer:
    """SentencePiece's BPE.

    Two pieces whose concatenation is a piece may merge, the best-scored first. Unknown characters become bytes. Raises
    ModelError for a piece that is too long to be one."""
    if (longest := max(map(len, vocabulary.pieces), default=0)) > MAX_PIECE:
        raise ModelError(
            f"a token of the vocabulary has {longest} characters, at most {MAX_PIECE} are possible: the file is damaged"
        )
    backend = _bpe(vocabulary, _merges_by_score(vocabulary), byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    steps = [normalizers.Prepend("▁")] if space_prefix else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tail = [decoders.Strip(" ", 1, 0)] if space_prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail])
    return _with_added(backend, vocabulary)


def _bpe(vocabulary: Vocabulary, merges: list[tuple[str, str]], **options: object) -> tokenizers.Tokenizer:
    ids = {piece: index for index, piece in enumerate(vocabulary.pieces)}
    try:
        return tokenizers.Tokenizer(models.BPE(vocab=ids, merges=merges, **options))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"the vocabulary contradicts its merges ({error}): the file is damaged") from None


def _with_added(backend: tokenizers.Tokenizer, vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """Control tokens, and those that a model's maker defined, are matched whole before any splitting."""
    typed = list(zip(vocabulary.pieces, vocabulary.types, strict=False))
    backend.add_special_tokens(
        [AddedToken(piece, normalized=False, special=True) for piece, kind in typed if kind == CONTROL]
    )
    backend.add_tokens([AddedToken(piece, normalized=False) for piece, kind in typed if kind == USER_DEFINED])
    return backend


def _merges_by_score(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Splits of one piece are ranked by the ids of their parts, as in the hub's conversion."""
    ids = {piece: index for index, piece in enumerate(vocabulary.pieces)}
    merges = [
        (-score, ids[piece[:cut]], ids[piece[cut:]])
        for piece, score in zip(vocabulary.pieces, vocabulary.scores, strict=True)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    merges.sort()
    return [(vocabulary.pieces[left], vocabulary.pieces[right]) for _, left, right in merges]

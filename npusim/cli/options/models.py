"""Options of commands about language models: the model, what is kept of its cache, lengths and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from npusim.cli.options.kinds import Kind, OneOf, Text, Tokens, Whole
from npusim.cli.options.option import REQUIRED, Value
from npusim.llm.setup import PRECISIONS

T = TypeVar("T")
_NAME_OR_PATH = Text("NAME|PATH")
_POLICY = Text("POLICY")
_TOKENS = Tokens()
_FORMAT = OneOf(PRECISIONS, "FORMAT")
_WHOLE = Whole()
_POSITIVE = Whole(1)
_PARTS = ("config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ModelOption(Value[str]):
    """--model, a language model by name or path."""

    names: tuple[str, ...] = ("--model",)
    help: str = (
        "language model: builtin, smollm2 (after `npusim model fetch smollm2`), a .gguf or .bin file, or a directory "
        "with config.json"
    )
    kind: Kind[Any] = _NAME_OR_PATH
    default: Any = "builtin"

    def inputs(self, value: str) -> tuple[Path, ...]:
        """The model's file, or those of its directory."""
        path = Path(value)
        if not path.is_dir():
            return (path,) if path.is_file() else ()
        return (*path.glob("*.safetensors"), *(path / name for name in _PARTS))


@dataclass(frozen=True)
class PolicyOption(Value[T]):
    """--policy."""

    names: tuple[str, ...] = ("--policy",)
    help: str = "which part of the cache a step attends to"
    kind: Kind[Any] = _POLICY


@dataclass(frozen=True)
class BudgetOption(Value[T]):
    """--budget."""

    names: tuple[str, ...] = ("--budget",)
    help: str = "tokens that a step may attend to in each layer"
    kind: Kind[Any] = _TOKENS


@dataclass(frozen=True)
class ContextOption(Value[T]):
    """--context."""

    names: tuple[str, ...] = ("--context",)
    help: str = "tokens of context, prompt and answer together"
    kind: Kind[Any] = _TOKENS
    default: Any = None


@dataclass(frozen=True)
class PrecisionOption(Value[T]):
    """--precision."""

    names: tuple[str, ...] = ("--precision",)
    help: str = "number format on the chip"
    kind: Kind[Any] = _FORMAT


@dataclass(frozen=True)
class SeedOption(Value[T]):
    """--seed."""

    names: tuple[str, ...] = ("--seed",)
    help: str = "seed of what is drawn"
    kind: Kind[Any] = _WHOLE
    default: Any = 0


@dataclass(frozen=True)
class MaxTokens(Value[int]):
    """--max-tokens."""

    names: tuple[str, ...] = ("--max-tokens",)
    help: str = "stop after N tokens"
    kind: Kind[Any] = _POSITIVE
    default: Any = REQUIRED

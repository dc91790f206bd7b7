"""Options of commands about language models: the model, the policy of its cache, lengths and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from npusim.cli.options.kinds import Kind, OneOf, Text, Tokens, Whole
from npusim.cli.options.option import Value
from npusim.llm.setup import PRECISIONS

_NAME_OR_PATH = Text("NAME|PATH")
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


policy_option = partial(
    Value[Any], names=("--policy",), help="which part of the cache a step attends to", kind=Text("POLICY")
)
budget_option = partial(
    Value[Any], names=("--budget",), help="tokens that a step may attend to in each layer", kind=Tokens()
)
context_option = partial(
    Value[Any],
    names=("--context",),
    help="tokens of context, prompt and answer together",
    kind=Tokens(),
    default=None,
)
precision_option = partial(
    Value[Any], names=("--precision",), help="number format on the chip", kind=OneOf(PRECISIONS, "FORMAT")
)
seed_option = partial(Value[Any], names=("--seed",), help="seed of random choices", kind=Whole(), default=0)
max_tokens_option = partial(Value[Any], names=("--max-tokens",), help="stop after N tokens", kind=Whole(1))
"""Each makes an option of that name. A command gives what is different there: `budget_option(default=256)`."""

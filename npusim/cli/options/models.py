"""Options of commands about language models: the model, the policy of its cache, lengths and seeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from npusim.cli.options import kinds
from npusim.cli.options.option import Value
from npusim.llm.setup import PRECISIONS

_PARTS = ("config.json", "tokenizer.json", "tokenizer_config.json")


class ModelOption(Value[str]):
    """--model, a language model by name or path."""

    def __init__(self) -> None:
        what = (
            "language model: builtin, smollm2 (after `npusim model fetch smollm2`), a .gguf or .bin file, or a "
            "directory with config.json"
        )
        super().__init__(("--model",), what, kinds.text("NAME|PATH"), default="builtin")

    def inputs(self, value: str) -> tuple[Path, ...]:
        """The model's file, or those of its directory."""
        path = Path(value)
        if not path.is_dir():
            return (path,) if path.is_file() else ()
        return (*path.glob("*.safetensors"), *(path / name for name in _PARTS))


policy_option = partial(
    Value[Any], names=("--policy",), help="which part of the cache a step attends to", kind=kinds.text("POLICY")
)
budget_option = partial(
    Value[Any], names=("--budget",), help="tokens that a step may attend to in each layer", kind=kinds.tokens()
)
context_option = partial(
    Value[Any],
    names=("--context",),
    help="tokens of context, prompt and answer together",
    kind=kinds.tokens(),
    default=None,
)
precision_option = partial(
    Value[Any], names=("--precision",), help="number format on the chip", kind=kinds.one_of(PRECISIONS, "FORMAT")
)
seed_option = partial(Value[Any], names=("--seed",), help="seed of random choices", kind=kinds.whole(), default=0)
max_tokens_option = partial(Value[Any], names=("--max-tokens",), help="stop after N tokens", kind=kinds.whole(1))
"""Each makes an option of that name. A command gives what is different there: `budget_option(default=256)`."""

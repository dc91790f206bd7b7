"""The demonstration: the bundled model, its prompt and board, and the logits of the vendor's functional model for
them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import as_file, files

import numpy as np

from golden import read_archive
from npusim.board import board_named
from npusim.llm.device import Device
from npusim.llm.generation import Generation, prepare
from npusim.llm.setup import Setup
from reference_model.generation import GREEDY
from reference_model.loading import load

PROMPT = (
    " [ king gold ] And there were in the same country shepherds abiding in the field, keeping watch over their "
    "flock by night."
    " [ water house ] And the angel of the Lord came upon them, and the glory of the Lord shone round about them:"
    " and they were sore afraid."
    " And the angel said unto them, Fear not: for, behold, I bring you good tidings of great joy, which shall be to "
    "all people. [ king"
)
"""The value that is asked for is further back than the budget, so Quest has to find its page."""
STEPS = 12
GOLDEN = files("golden") / "data" / "llm" / "demo.npz"


def demo_run() -> Generation:
    """The bundled model in bf16 on a Duo 256M, with a cache of 256 tokens of which a step attends to 64."""
    model = load("builtin")
    return prepare(model, Setup(board_named("duo256m"), "bf16", context=256, budget=64), model.tokenizer.encode(PROMPT))


def demo_tokens(run: Generation, device: Device | None = None) -> Iterator[int]:
    """Yields the likeliest tokens. Afterwards run.logits should equal golden_logits()."""
    return run.generate(STEPS, GREEDY, device)


def golden_logits() -> np.ndarray:
    """The logits of the vendor's functional model, float32 [STEPS, vocab]."""
    with as_file(GOLDEN) as path:
        return np.asarray(read_archive(path)["logits"])

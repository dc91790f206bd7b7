"""What the chip's arithmetic costs in time: the quantised twins against the float32 model on the same tokens, in turns,
in one process, with the bundled model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

import reference_model
from benchmarks.claim import Say
from benchmarks.cpu import Turns, take_turns, timed
from reference_model import Model
from reference_model.quant.quantise import quantise
from reference_model.quant.twin import TwinModel

TOKENS, DECODE_STEPS, TURNS = 512, 8, 3


def reading(say: Say) -> float:
    """How many times as long as in float32 reading a text takes: the most of bf16 and int8."""
    turns = all_turns()[0]
    for name in turns.seconds:
        say(f"{name:8} reads {TOKENS / turns.median(name):8.0f} tokens/s ({turns.ratio(name, 'float32'):.1f} times)")
    return max(turns.ratio(name, "float32") for name in ("bf16", "int8"))


def decoding(say: Say) -> float:
    """The same for one token at a time."""
    turns = all_turns()[1]
    for name in turns.seconds:
        ms = 1000 * turns.median(name) / DECODE_STEPS
        say(f"{name:8} decodes a token in {ms:7.1f} ms ({turns.ratio(name, 'float32'):.1f} times)")
    return max(turns.ratio(name, "float32") for name in ("bf16", "int8"))


@cache
def all_turns() -> tuple[Turns, Turns]:
    """Reading TOKENS tokens, and decoding DECODE_STEPS behind them."""
    model = reference_model.load("builtin")
    models: dict[str, Model | TwinModel] = {
        "float32": model,
        "bf16": quantise(model, "bf16"),
        "int8": quantise(model, "int8"),
    }
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, TOKENS)
    read = {name: timed(partial(read_all, each, ids)) for name, each in models.items()}
    decode = {name: timed(decoder(each, ids)) for name, each in models.items()}
    return take_turns(read, TURNS), take_turns(decode, TURNS)


def read_all(model: Model | TwinModel, ids: NDArray[np.int64]) -> None:
    model.hidden(ids, model.new_kv(len(ids)))


def decoder(model: Model | TwinModel, ids: NDArray[np.int64]) -> Callable[[], None]:
    """What decodes DECODE_STEPS tokens behind all of `ids`, and goes on from there when it is called again."""
    kv = model.new_kv(len(ids) + (TURNS + 1) * DECODE_STEPS)
    model.hidden(ids, kv)

    def decode() -> None:
        for token in ids[:DECODE_STEPS]:
            model.forward([int(token)], kv)

    return decode

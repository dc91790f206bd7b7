"""Speed and memory of reference_model against torch in float32, one thread each, in the same run, with SmolLM2.

Each side runs in a process of its own and they take turns. torch reads the same GGUF file through transformers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claim import Say
from benchmarks.cpu import Side, Turns, take_turns
from benchmarks.support.memory import peak_bytes

TOKENS, DECODE_STEPS, TURNS = 512, 16, 5


@dataclass(frozen=True)
class Compared:
    """Turns of both sides at each task, and of our side memory over the float32 weights, with and without what Python
    and its libraries take before a model is loaded, and CPU seconds from loading to the first token."""

    prefill: Turns
    decode: Turns
    memory: float
    all_memory: float
    loading: float


def prefill(say: Say) -> float:
    """torch's time over ours for a prompt."""
    return _speed("prefill", compared().prefill, TOKENS, say)


def decode(say: Say) -> float:
    """torch's time over ours for a token behind it."""
    return _speed("decode", compared().decode, DECODE_STEPS, say)


def memory(say: Say) -> float:
    """Peak memory over the float32 weights, without what Python and its libraries take."""
    found = compared()
    say(f"peak memory {found.memory:.3f} times the float32 weights, with the cache of {TOKENS} tokens")
    say(f"{found.all_memory:.3f} times with what Python and its libraries take before a model is loaded")
    return found.memory


def loading(say: Say) -> float:
    """CPU seconds from loading to the first token."""
    return compared().loading


def _speed(task: str, turns: Turns, count: int, say: Say) -> float:
    ours, theirs = (count / turns.median(side) for side in ("ours", "torch"))
    say(f"{task} at {TOKENS} tokens: {ours:.1f} tokens/s, torch {theirs:.1f}")
    return turns.ratio("torch", "ours")


@cache
def compared() -> Compared:
    from reference_model.fetch import fetched_path

    path = fetched_path("smollm2")
    with Side(our_side, path) as ours, Side(torch_side, path) as torch:
        loading = ours.value("loading")
        prefill, decode = (
            take_turns({"ours": ours.timer(task), "torch": torch.timer(task)}, TURNS) for task in ("prefill", "decode")
        )
        memory, all_memory = ours.value("memory")
    return Compared(prefill, decode, memory, all_memory, loading)


def our_side(path: Path) -> dict[str, Callable[[], Any]]:
    begun = time.process_time()
    import reference_model

    before = peak_bytes()
    model = reference_model.load(path)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, TOKENS)
    model.head(model.hidden(ids[:8])[-1:])
    loading = time.process_time() - begun
    caches: list[Any] = []

    def prefill() -> None:
        caches.clear()  # the last turn's, or two would be alive at once
        caches.append(model.new_kv(TOKENS + (TURNS + 1) * DECODE_STEPS))
        model.head(model.hidden(ids, caches[0])[-1:])

    def decode() -> None:
        for token in ids[:DECODE_STEPS]:
            model.forward([int(token)], caches[0])

    def memory() -> tuple[float, float]:
        return (peak_bytes() - before) / model.weights.num_bytes, peak_bytes() / model.weights.num_bytes

    return {"prefill": prefill, "decode": decode, "memory": memory, "loading": lambda: loading}


def torch_side(path: Path) -> dict[str, Callable[[], Any]]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    ids = torch.tensor(np.random.default_rng(0).integers(0, model.config.vocab_size, (1, TOKENS)))
    caches: list[Any] = []

    def prefill() -> None:
        caches[:] = [model(ids, use_cache=True, logits_to_keep=1).past_key_values]

    def decode() -> None:
        for step in range(DECODE_STEPS):
            model(ids[:, step : step + 1], past_key_values=caches[0], use_cache=True)

    return {"prefill": prefill, "decode": decode}

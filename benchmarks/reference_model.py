"""Speed and memory of reference_model, one thread, with SmolLM2: against torch in float32, the speed of memory, and its
own quantised twins, each in one run.

Each side runs in a process of its own and they take turns. torch reads the same GGUF file through transformers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claim import Say
from benchmarks.cpu import Side, Turns, take_turns
from benchmarks.support.memory import peak_bytes

TOKENS, DECODE_STEPS, TURNS = 512, 16, 5
TWINS = ("int8", "bf16")
READ_BYTES = 1 << 28


@dataclass(frozen=True)
class Compared:
    """Turns of both sides at each task; of our side also memory over the float32 weights, with and without what Python
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


def bandwidth(say: Say) -> float:
    """Percent of the speed of reading memory at which a token behind the prompt reads weights and cache."""
    turns, num_bytes = decoding_turns()
    reading = READ_BYTES / turns.median("read")
    decoding = num_bytes * DECODE_STEPS / turns.median("float32")
    say(f"decode reads {decoding / 1e9:.1f} GB/s, the maximum of a large array {reading / 1e9:.1f} GB/s")
    return 100 * decoding / reading


def twin(say: Say) -> float:
    """The slower quantised twin's time over the float model's for a token behind the prompt."""
    turns, _ = decoding_turns()
    ratios = {name: turns.ratio(name, "float32") for name in TWINS}
    for name, ratio in ratios.items():
        say(f"a token of the {name} twin takes {ratio:.2f} times as long as one in float32")
    return max(ratios.values())


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


@cache
def decoding_turns() -> tuple[Turns, int]:
    """Turns of DECODE_STEPS tokens in float32 and of each quantised twin, and of reading READ_BYTES; and the bytes that
    a token in float32 reads."""
    from reference_model.fetch import fetched_path

    path = fetched_path("smollm2")
    with Side(our_side, path) as ours, Side(twin_side, path) as twins:
        ours.value("prefill")
        sides = {"float32": ours.timer("decode"), "read": ours.timer("read")}
        turns = take_turns(sides | {name: twins.timer(name) for name in TWINS}, TURNS)
        return turns, ours.value("num_bytes")


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

    def read() -> None:
        if len(caches) == 1:
            caches.append(np.ones(READ_BYTES // 4, np.float32))
        caches[1].max()

    def num_bytes() -> int:
        config = model.config
        cache = 4 * config.num_layers * 2 * config.num_kv_heads * config.head_dim * TOKENS
        return int(model.weights.num_bytes + cache)

    def memory() -> tuple[float, float]:
        return (peak_bytes() - before) / model.weights.num_bytes, peak_bytes() / model.weights.num_bytes

    tasks = {"prefill": prefill, "decode": decode, "read": read}
    return tasks | {"num_bytes": num_bytes, "memory": memory, "loading": lambda: loading}


def twin_side(path: Path) -> dict[str, Callable[[], Any]]:
    import reference_model
    from reference_model.quant.quantise import quantise

    model = reference_model.load(path)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, TOKENS)
    twins = {name: quantise(model, name) for name in TWINS}
    caches = {name: twin.new_kv(TOKENS + (TURNS + 1) * DECODE_STEPS) for name, twin in twins.items()}
    for name, twin in twins.items():
        twin.hidden(ids, caches[name])

    def decode(name: str) -> None:
        for token in ids[:DECODE_STEPS]:
            twins[name].forward([int(token)], caches[name])

    return {name: partial(decode, name) for name in twins}


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

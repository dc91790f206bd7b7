"""Speed and memory of reference_model against torch in float32, one thread each, in the same run.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/reference_speed.py MODEL.gguf [--tokens 512]

needs torch and transformers, which read the same GGUF. Each side runs in a process of its own, in turns. Exit code 1 when a claim fails.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS, DECODE_STEPS = 3, 16
CLAIMS = {"prefill": 0.9, "decode": 1.5}
MEMORY_ALLOWED = 1.15
LOADING_ALLOWED = 8.0


def measure_ours(path: Path, num_tokens: int) -> dict[str, float]:
    begun = time.perf_counter()
    import reference_model

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model = reference_model.load(path)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, num_tokens)
    model.head(model.hidden(ids[:8])[-1:])
    loading = time.perf_counter() - begun
    prefill, decode = [], []
    for _ in range(ROUNDS):
        kv = model.new_kv(num_tokens + DECODE_STEPS)
        begun = time.perf_counter()
        model.head(model.hidden(ids, kv)[-1:])
        prefill.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for token in ids[:DECODE_STEPS]:
            model.forward([token], kv)
        decode.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = {"all": peak / model.weights.num_bytes, "memory": (peak - before) / model.weights.num_bytes}
    return report(prefill, decode, num_tokens) | memory | {"loading": loading}


def measure_torch(path: Path, num_tokens: int) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    ids = torch.tensor(np.random.default_rng(0).integers(0, model.config.vocab_size, (1, num_tokens)))
    prefill, decode = [], []
    with torch.inference_mode():
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            cache = model(ids, use_cache=True, logits_to_keep=1).past_key_values
            prefill.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            for step in range(DECODE_STEPS):
                model(ids[:, step : step + 1], past_key_values=cache, use_cache=True)
            decode.append(time.perf_counter() - begun)
    return report(prefill, decode, num_tokens)


def report(prefill: list[float], decode: list[float], num_tokens: int) -> dict[str, float]:
    """Tokens per second, of the best round."""
    return {"prefill": num_tokens / min(prefill), "decode": DECODE_STEPS / min(decode)}


def run_side(side: str, path: Path, num_tokens: int) -> dict[str, float]:
    environment = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, str(path), "--tokens", str(num_tokens), "--side", side]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--side", choices=["ours", "torch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        measure = measure_ours if options.side == "ours" else measure_torch
        print(json.dumps(measure(options.model, options.tokens)))
        return 0

    ours, theirs = (run_side(side, options.model, options.tokens) for side in ("ours", "torch"))
    failed = False
    for name, needed in CLAIMS.items():
        ratio = ours[name] / theirs[name]
        failed |= ratio < needed
        print(f"{name} at {options.tokens}: {ours[name]:.1f} tokens/s, torch {theirs[name]:.1f}: {ratio:.2f}x (needed {needed}x)")
    print(f"peak memory: {ours['memory']:.3f}x the float32 weights (allowed {MEMORY_ALLOWED}x), with the cache of {options.tokens} tokens")
    print(f"             {ours['all']:.3f}x with what Python and its libraries take before a model is loaded")
    print(f"loading to the first token: {ours['loading']:.1f} s (allowed {LOADING_ALLOWED:.0f} s)")
    return int(failed or ours["memory"] > MEMORY_ALLOWED or ours["loading"] > LOADING_ALLOWED)


if __name__ == "__main__":
    sys.exit(main())

"""Speed and memory of reference_model against torch in float32, one thread each, in the same run.

    python -m benchmarks.reference_model MODEL.gguf [--tokens 512] [--rounds 5]

needs torch and transformers, which read the same GGUF. Each side runs in a process of its own and they take turns,
round by round. Times are processor time, which on one thread is what a clock shows on an idle machine, so that other
programs do not decide; the clock's time is printed too. Exit code 1 when a claim fails."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

DECODE_STEPS = 16
CLAIMS = {"prefill": 0.9, "decode": 1.5}
MEMORY_ALLOWED = 1.15
LOADING_ALLOWED = 8.0


class Ours:
    """reference_model: its logits of the last prompt token, and of every token after it."""

    def __init__(self, path: Path, num_tokens: int) -> None:
        begun = Clock()
        import reference_model

        self._before = peak_bytes()
        self._model = reference_model.load(path)
        self._ids = np.random.default_rng(0).integers(0, self._model.config.vocab_size, num_tokens)
        self._model.head(self._model.hidden(self._ids[:8])[-1:])
        self._loading = begun.seconds()

    def prefill(self) -> None:
        self._kv: Any = None  # the last round's, or two would be alive at once
        self._kv = self._model.new_kv(len(self._ids) + DECODE_STEPS)
        self._model.head(self._model.hidden(self._ids, self._kv)[-1:])

    def decode(self) -> None:
        for token in self._ids[:DECODE_STEPS]:
            self._model.forward([token], self._kv)

    def report(self) -> dict[str, Any]:
        weights = self._model.weights.num_bytes
        return {
            "loading": self._loading,
            "memory": (peak_bytes() - self._before) / weights,
            "all": peak_bytes() / weights,
        }


class Torch:
    """transformers on torch, the same."""

    def __init__(self, path: Path, num_tokens: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        ).eval()
        self._ids = torch.tensor(np.random.default_rng(0).integers(0, self._model.config.vocab_size, (1, num_tokens)))

    def prefill(self) -> None:
        self._cache = self._model(self._ids, use_cache=True, logits_to_keep=1).past_key_values

    def decode(self) -> None:
        for step in range(DECODE_STEPS):
            self._model(self._ids[:, step : step + 1], past_key_values=self._cache, use_cache=True)

    def report(self) -> dict[str, Any]:
        return {}


SIDES: dict[str, Callable[[Path, int], Ours | Torch]] = {"ours": Ours, "torch": Torch}


class Clock:
    """Seconds of the processor and of the wall since it was made."""

    def __init__(self) -> None:
        self._begun = time.process_time(), time.perf_counter()

    def seconds(self) -> tuple[float, float]:
        return time.process_time() - self._begun[0], time.perf_counter() - self._begun[1]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(side: Ours | Torch) -> None:
    """A round for each line of standard input; a report at its end."""
    print(flush=True)
    for _ in sys.stdin:
        times = {}
        for name in CLAIMS:
            clock = Clock()
            getattr(side, name)()
            times[name] = clock.seconds()
        print(json.dumps(times), flush=True)
    print(json.dumps(side.report()))


def start(side: str, path: Path, num_tokens: int) -> subprocess.Popen[str]:
    environment = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [
        sys.executable,
        "-m",
        "benchmarks.reference_model",
        str(path),
        "--tokens",
        str(num_tokens),
        "--side",
        side,
    ]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdout is None or process.stdout.readline() != "\n":
        sys.exit(f"the side of {side} did not start")
    return process


def measure(path: Path, num_tokens: int, rounds: int) -> tuple[dict[str, list[dict[str, list[float]]]], dict[str, Any]]:
    """-> for each side the times of each round, and what our side reports at the end."""
    processes = {name: start(name, path, num_tokens) for name in SIDES}
    times: dict[str, list[dict[str, list[float]]]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, process in processes.items():
            assert process.stdin and process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            times[name].append(json.loads(process.stdout.readline()))
    reports = {name: json.loads(process.communicate()[0]) for name, process in processes.items()}
    return times, reports["ours"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(SIDES[options.side](options.model, options.tokens))
        return 0

    times, report = measure(options.model, options.tokens, options.rounds)
    failed = False
    for name, needed in CLAIMS.items():
        count = options.tokens if name == "prefill" else DECODE_STEPS
        ours, theirs = (count / median(one[name][0] for one in times[side]) for side in SIDES)
        wall = median(theirs[name][1] / ours[name][1] for ours, theirs in zip(*times.values(), strict=True))
        failed |= ours / theirs < needed
        rates = f"{ours:.1f} tokens/s, torch {theirs:.1f}: {ours / theirs:.2f}x"
        print(f"{name} at {options.tokens}: {rates} (needed {needed}x; by the clock {wall:.2f}x)")
    processor, clock = report["loading"]
    memory = f"{report['memory']:.3f}x the float32 weights (allowed {MEMORY_ALLOWED}x)"
    print(f"peak memory: {memory}, with the cache of {options.tokens} tokens")
    print(f"             {report['all']:.3f}x with what Python and its libraries take before a model is loaded")
    print(
        f"loading to the first token: {processor:.1f} s (allowed {LOADING_ALLOWED:.0f} s; by the clock {clock:.1f} s)"
    )
    return int(failed or report["memory"] > MEMORY_ALLOWED or processor > LOADING_ALLOWED)


if __name__ == "__main__":
    sys.exit(main())

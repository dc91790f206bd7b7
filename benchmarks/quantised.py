"""What the chip's arithmetic costs in time: the quantised twins against the float32 model on the same tokens, in turns,
in one process.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.quantised [--model builtin] [--tokens 512]

Times are CPU times, the best of three rounds. Exit code 1 when a claim fails: reading a text takes at most 5 times as
long as in float32."""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import reference_model
from reference_model import Model
from reference_model.quant.quantise import quantise
from reference_model.quant.twin import TwinModel

ROUNDS, DECODE_STEPS = 3, 8
CLAIM = 5.0


def seconds(model: Model | TwinModel, ids: np.ndarray) -> tuple[float, float]:
    """CPU time of reading all `ids`, and of one decoded token behind them."""
    kv = model.new_kv(len(ids) + DECODE_STEPS)
    begun = time.process_time()
    model.hidden(ids, kv)
    read = time.process_time()
    for token in ids[:DECODE_STEPS]:
        model.forward([int(token)], kv)
    return read - begun, (time.process_time() - read) / DECODE_STEPS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()
    model = reference_model.load(options.model)
    models: dict[str, Model | TwinModel] = {
        "float32": model,
        "bf16": quantise(model, "bf16"),
        "int8": quantise(model, "int8"),
    }
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, options.tokens)
    rounds = [{name: seconds(each, ids) for name, each in models.items()} for _ in range(ROUNDS)]
    best = {name: np.min([row[name] for row in rounds], 0) for name in models}
    for name, (read, decode) in best.items():
        ratios = best[name] / best["float32"]
        speed = f"read {options.tokens / read:8.0f} tokens/s ({ratios[0]:.1f}x the time)"
        print(f"{name:8} {speed}, decode {1000 * decode:7.1f} ms ({ratios[1]:.1f}x)")
    return int(max(best[name][0] for name in ("bf16", "int8")) > CLAIM * best["float32"][0])


if __name__ == "__main__":
    sys.exit(main())

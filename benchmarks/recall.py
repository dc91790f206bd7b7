"""How far back a model looks up planted key-value records, and how well it predicts the text between them.

    python -m benchmarks.recall [--model builtin|DIR] [--text FILE] [--trials 50]

Prompts fill the model's context with passages of the text and eight records ` [ key value ]`; the last tokens ask for
one of them, and the likeliest next token is taken. Exit code 1 when fewer than nine of ten values are recalled at
distance 900, or at the longest distance that fits in a shorter context."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import reference_model
from reference_model import Model
from reference_model.train.evaluate import recall_at

DISTANCES = (16, 64, 256, 512, 768, 900)
NEEDED = 0.9
HELD_OUT = Path(__file__).parents[1] / "tests" / "reference_model" / "data" / "held_out.txt"


def mean_loss(model: Model, ids: np.ndarray) -> float:
    """Nats a token, in windows of the context."""
    losses = []
    for start in range(0, len(ids) - 1, model.config.context_length):
        window = ids[start : start + model.config.context_length + 1]
        logits = model.forward(window[:-1]).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        losses.append(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), window[1:]])
    return float(np.concatenate(losses).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--text", type=Path, default=HELD_OUT, help="text that the model was not trained on")
    parser.add_argument("--trials", type=int, default=50)
    options = parser.parse_args()

    model = reference_model.load(options.model)
    context = model.config.context_length
    ids = np.array(model.tokenizer.encode(options.text.read_text(encoding="utf-8")))
    if len(ids) <= context:
        parser.error(f"{options.text} has {len(ids)} tokens, a prompt needs more than {context}: use a longer text")
    print(f"{options.model} on {options.text.name}: {mean_loss(model, ids):.3f} nats a token over {len(ids):,}")
    share = 0.0
    for distance in [distance for distance in DISTANCES if distance <= context - 100]:
        share = recall_at(model, ids, distance, context, options.trials)
        print(f"distance {distance:>4}: {share:.0%} of {options.trials} values recalled")
    return int(share < NEEDED)


if __name__ == "__main__":
    sys.exit(main())

"""Logits of reference_model against transformers in float32, at every position of a text, and next-token choices against llama.cpp.

    python -m benchmarks.reference_logits MODEL.gguf [--text FILE] [--tokens 512]

needs torch and transformers (which read the same GGUF), and llama-cpp-python for the second comparison. Exit code 1 when a claim fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np

import reference_model

DIFFERENCE_ALLOWED = 1e-3
AGREEMENT_NEEDED = 0.95


def logits_of_transformers(path: Path, ids: list[int]) -> np.ndarray:
    """float32 [T, vocab]."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor([ids])).logits[0].numpy()
    return logits


def choices_of_llama_cpp(path: Path, ids: list[int]) -> np.ndarray:
    """The likeliest next token after each of ids."""
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=len(ids), n_batch=len(ids), n_threads=1, logits_all=True, verbose=False)
    llama.eval(ids)
    choices: np.ndarray = llama.scores[: len(ids)].argmax(-1)
    return choices


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, default=Path(__file__).parents[1] / "LICENSE")
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()

    model = reference_model.load(options.model)
    ids = model.tokenizer.encode(options.text.read_text(encoding="utf-8") * 8)[: options.tokens]
    ours = model.forward(ids)
    theirs = logits_of_transformers(options.model, ids)
    worst = np.abs(ours - theirs).max(-1)
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    print(f"transformers: {len(ids)} positions, largest |difference| {worst.max():.2e} (allowed {DIFFERENCE_ALLOWED:.0e})")
    print(f"transformers: same next token at {same:.1%} of positions")
    failed = worst.max() > DIFFERENCE_ALLOWED
    if importlib.util.find_spec("llama_cpp"):
        agreement = (ours.argmax(-1) == choices_of_llama_cpp(options.model, ids)).mean()
        print(f"llama.cpp: same next token at {agreement:.1%} of positions (needed {AGREEMENT_NEEDED:.0%})")
        failed = failed or agreement < AGREEMENT_NEEDED
    else:
        print("llama.cpp: not compared, llama-cpp-python is not installed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

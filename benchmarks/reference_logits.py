"""Logits of reference_model against transformers in float32, at every position of a text, and next-token choices
against llama.cpp.

    python -m benchmarks.reference_logits MODEL.gguf [--text FILE] [--tokens 512]

needs torch and transformers (which read the same GGUF), and llama-cpp-python for the second comparison: with the file
as it is, where llama.cpp rounds activations to 8 bits, and with the same weights written out in float32. Exit code 1
when a claim fails."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

import reference_model

DIFFERENCE_ALLOWED = 1e-3
AGREEMENT_NEEDED = 0.95
HELD_OUT = Path(__file__).parents[1] / "tests" / "reference_model" / "data" / "held_out.txt"


def logits_of_transformers(path: Path, ids: list[int]) -> np.ndarray:
    """float32 [T, vocab]."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor([ids])).logits[0].numpy()
    return logits


def write_float32(path: Path, target: Path) -> None:
    """The model of a GGUF with every tensor in float32."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize

    reader = GGUFReader(path)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            item = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=item)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def choices_of_llama_cpp(path: Path, ids: list[int], float32: bool) -> np.ndarray:
    """The likeliest next token after each of ids. float32: keys and values are kept so too, not in float16."""
    from llama_cpp import GGML_TYPE_F32, Llama

    cache = {"type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32} if float32 else {}
    llama = Llama(str(path), n_ctx=len(ids), n_batch=len(ids), n_threads=1, logits_all=True, verbose=False, **cache)
    llama.eval(ids)
    choices: np.ndarray = llama.scores[: len(ids)].argmax(-1)
    return choices


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, default=HELD_OUT)
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()

    model = reference_model.load(options.model)
    ids = model.tokenizer.encode(options.text.read_text(encoding="utf-8"))[: options.tokens]
    ours = model.forward(ids)
    theirs = logits_of_transformers(options.model, ids)
    worst = np.abs(ours - theirs).max(-1)
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    print(
        f"transformers: {len(ids)} positions, largest |difference| {worst.max():.2e} (allowed {DIFFERENCE_ALLOWED:.0e})"
    )
    print(f"transformers: same next token at {same:.1%} of positions")
    failed = worst.max() > DIFFERENCE_ALLOWED
    if importlib.util.find_spec("llama_cpp"):
        choices = ours.argmax(-1)
        agreement = (choices == choices_of_llama_cpp(options.model, ids, float32=False)).mean()
        print(f"llama.cpp: same next token at {agreement:.1%} of positions (activations in 8 bits)")
        with tempfile.TemporaryDirectory() as directory:
            write_float32(options.model, Path(directory) / "float32.gguf")
            agreement = (choices == choices_of_llama_cpp(Path(directory) / "float32.gguf", ids, float32=True)).mean()
        print(f"llama.cpp: same next token at {agreement:.1%} of positions (float32; needed {AGREEMENT_NEEDED:.0%})")
        failed = failed or agreement < AGREEMENT_NEEDED
    else:
        print("llama.cpp: not compared, llama-cpp-python is not installed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Logits of reference_model against transformers in float32, at every position of a text, and next-token choices
against llama.cpp, with SmolLM2 from the same GGUF file."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import reference_model
from benchmarks.claim import Say
from reference_model.fetch import fetched_path

TOKENS = 512
HELD_OUT = Path(__file__).parents[1] / "tests" / "reference_model" / "data" / "held_out.txt"


def transformers(say: Say) -> float:
    """The largest difference of a logit from transformers', over all positions."""
    (ids, ours), theirs = text_and_logits(), logits_of_transformers(*text_and_ids())
    worst = np.abs(ours - theirs).max(-1)
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    say(f"{len(ids)} positions: median of the largest difference {np.median(worst):.1e}, most {worst.max():.1e}")
    say(f"same next token at {same:.1%} of positions")
    return float(worst.max())


def llama_cpp(say: Say) -> float:
    """Percent of positions at which llama.cpp, with the same weights in float32, chooses the same next token."""
    path, ids = text_and_ids()
    choices = text_and_logits()[1].argmax(-1)
    agreement = (choices == choices_of_llama_cpp(path, ids, float32=False)).mean()
    say(f"same next token at {agreement:.1%} of {len(ids)} positions with the file as it is (activations in 8 bits)")
    with tempfile.TemporaryDirectory() as directory:
        write_float32(path, Path(directory) / "float32.gguf")
        agreement = (choices == choices_of_llama_cpp(Path(directory) / "float32.gguf", ids, float32=True)).mean()
    say(f"same next token at {agreement:.1%} of {len(ids)} positions with its weights in float32")
    return 100 * float(agreement)


def text_and_ids() -> tuple[Path, list[int]]:
    """The model's file and the text's tokens."""
    path = fetched_path("smollm2")
    text = HELD_OUT.read_text(encoding="utf-8")
    return path, reference_model.load(path).tokenizer.encode(text)[:TOKENS]


@cache
def text_and_logits() -> tuple[list[int], NDArray[np.float32]]:
    """The text's tokens, and our logits behind each, float32 [T, vocab]."""
    path, ids = text_and_ids()
    return ids, reference_model.load(path).forward(ids)


def logits_of_transformers(path: Path, ids: list[int]) -> NDArray[np.float32]:
    """float32 [T, vocab]."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([ids])).logits[0].numpy()
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


def choices_of_llama_cpp(path: Path, ids: list[int], float32: bool) -> NDArray[np.int64]:
    """The likeliest next token after each of ids. float32: keys and values are kept so too, not in float16."""
    from llama_cpp import GGML_TYPE_F32, Llama

    cache = {"type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32} if float32 else {}
    llama = Llama(str(path), n_ctx=len(ids), n_batch=len(ids), n_threads=1, logits_all=True, verbose=False, **cache)
    llama.eval(ids)
    choices: NDArray[np.int64] = llama.scores[: len(ids)].argmax(-1)
    return choices

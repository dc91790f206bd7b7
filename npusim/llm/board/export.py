"""Writes a bundle: a directory with which a board runs a lowered model, and what it must give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from golden import write_archive
from golden.whole import replacing
from npusim.board import MIB
from npusim.errors import UsageError
from npusim.isa.descriptors import tdma_layout
from npusim.kernels.cache import PAGE_SIZE
from npusim.kernels.program import Program
from npusim.llm.generation import Generation
from npusim.llm.setup import Gather, Setup
from npusim.program.cmdbuf import parse_cmdbuf
from reference_model.generation import GREEDY
from reference_model.quant.ops import MASKED

RUNNERS = ("run.py", "runtime.py")
README = """# A language model for {board}

Written by `npusim llm export` for the chip {chip}, in {precision}. The cache holds {context} tokens,
prompt and answer together; a step attends to {attended}. It needs one block of {mebibytes} MiB of ION memory.

    python3 run.py                                  {prompt} tokens of prompt, {steps} steps: text, and logits.npz
    python3 run.py --prompt "In the beginning"      another prompt; needs the package `tokenizers`
    python3 run.py --tokens 12,7,5 --steps 10       the same by token ids
    python3 run.py --lib DIR                        on a PC: the directory of the vendor's libraries, or set CVI_LIB

`npusim diff logits.npz golden.npz` then says whether the board computes what the simulated chip computed
(for the bundle's own prompt and steps). run.py needs Python 3.8 and the vendor's libcviruntime.so, nothing else.

| file | what is in it |
|---|---|
| manifest.json | addresses, sizes, the prompt |
| memory.bin | weights and tables as they lie in memory |
| embedding.bin | the vector of each token, bf16 |
| *.cmdbuf | command buffers |
| pieces.json | the bytes that each token adds to a text, as Latin-1 |
| tokenizer.json | text to tokens, for the package `tokenizers` |
| golden.npz | logits of the simulated chip |
"""


def export_bundle(run: Generation, directory: Path, steps: int) -> list[Path]:
    """The bundle of `run` in a new or empty `directory`: programs, memory, embedding, manifest, the runner and golden
    logits.

    golden.npz holds the logits [prompt + steps, vocab] of the simulated chip: the prompt token by token, then `steps`
    of the likeliest. Raises UsageError as require_bundle does, and where the directory cannot be written."""
    require_bundle(run.lowered.setup, run.prompt, directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with replacing(directory) as partial:
            partial.mkdir()
            _write(run, partial, steps)
    except OSError as error:
        raise UsageError(f"cannot write {directory}: {error.strerror or error}") from None
    return sorted(directory.iterdir())


def require_bundle(setup: Setup, prompt: Sequence[int], directory: Path) -> None:
    """Raises UsageError for what no bundle can be made of, and for a directory that holds files already."""
    if setup.gather is not Gather.PATCH:
        raise UsageError("a bundle moves addresses, it does not copy pages: leave --gather at patch")
    if not prompt:
        raise UsageError("the prompt is empty: give at least one token for the bundle to run")
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty: name a new directory")


def _write(run: Generation, directory: Path, steps: int) -> None:
    low = run.lowered
    manifest = _manifest(run, steps)
    with open(directory / "memory.bin", "wb") as memory:
        for addr, data in low.layout.constants(run.twin):
            manifest["constants"].append([addr, memory.tell(), len(data)])
            memory.write(data)
    for name in low.decode:
        manifest["programs"][name] = []
        for number, cmdbuf in enumerate(low.programs[name].cmdbufs):
            file = f"{name}.{number}.cmdbuf"
            (directory / file).write_bytes(cmdbuf)
            manifest["programs"][name].append({"file": file, "labels": _labels(low.programs[name], number)})
    (directory / "embedding.bin").write_bytes(run.twin.embed(np.arange(low.config.vocab_size)).tobytes())
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1))
    tokenizer = run.twin.tokenizer
    (directory / "tokenizer.json").write_text(tokenizer.backend.to_str(), encoding="utf-8")
    (directory / "pieces.json").write_text(json.dumps([piece.decode("latin-1") for piece in tokenizer.pieces()]))
    (directory / "README.md").write_text(_readme(run, steps), encoding="utf-8")
    for file in RUNNERS:
        (directory / file).write_text((files("npusim.llm.board") / file).read_text())
    write_archive(directory / "golden.npz", {"logits": golden_logits(run, steps)})


def golden_logits(run: Generation, steps: int) -> np.ndarray:
    """What the bundle's runner must give, from the simulated chip."""
    session, rows, tokens = run.session(), [], list(run.prompt)
    for index in range(len(run.prompt) + steps):
        rows.append(session.decode(tokens[index]))
        if index + 1 >= len(tokens):
            tokens.append(GREEDY.choose(rows[-1], np.random.default_rng(0)))
    return np.stack(rows)


def _manifest(run: Generation, steps: int) -> dict[str, Any]:
    low, config, setup = run.lowered, run.lowered.config, run.lowered.setup
    return {
        "chip": setup.board.chip.name,
        "num_bytes": low.memory.num_bytes,
        "memory_map": [asdict(region) for region in low.memory.regions],
        "addresses": asdict(low.addresses),
        "pages": asdict(low.pages),
        "page_size": PAGE_SIZE,
        "num_pages": setup.num_pages,
        "num_slots": setup.num_slots,
        "context": setup.context,
        "prunes": setup.prunes,
        "masked": int(MASKED),
        "hidden": config.hidden_size,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "num_layers": config.num_layers,
        "vocab": config.vocab_size,
        "decode": list(low.decode),
        "bos": run.twin.tokenizer.bos if run.twin.tokenizer.add_bos else None,
        "prompt": run.prompt,
        "steps": steps,
        "constants": [],
        "programs": {},
    }


def _readme(run: Generation, steps: int) -> str:
    setup = run.lowered.setup
    attended = f"at most {setup.budget} of them" if setup.prunes else "all of them"
    return README.format(
        board=setup.board.title,
        chip=setup.board.chip.name,
        precision=setup.precision,
        context=setup.context,
        attended=attended,
        mebibytes=f"{run.lowered.memory.num_bytes / MIB:.1f}",
        prompt=len(run.prompt),
        steps=steps,
    )


def _labels(program: Program, buffer: int) -> dict[str, list[list[int]]]:
    """label -> [TDMA descriptor, byte offset of the address in it, what is added to the label's address]."""
    cmdbuf = parse_cmdbuf(program.chip, program.cmdbufs[buffer])
    number = {command: i for i, command in enumerate(cmdbuf.tdma_index.tolist())}
    offset = {side: tdma_layout(program.chip).by_name[f"{side}_base_addr_low"].lsb // 8 for side in ("src", "dst")}
    labels: dict[str, list[list[int]]] = {}
    for point in program.relocations:
        if point.buffer == buffer:
            labels.setdefault(point.label, []).append([number[point.command], offset[point.side], point.addend])
    return labels

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
from npusim.errors import UsageError
from npusim.isa.descriptors import tdma_layout
from npusim.kernels.cache import PAGE_SIZE
from npusim.kernels.program import Program
from npusim.llm.generation import Generation
from npusim.llm.setup import Gather, Setup
from npusim.program.cmdbuf import parse_cmdbuf
from reference_model.generation import GREEDY

RUNNERS = ("run.py", "runtime.py")


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
        "hidden": config.hidden_size,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "num_layers": config.num_layers,
        "vocab": config.vocab_size,
        "decode": list(low.decode),
        "prompt": run.prompt,
        "steps": steps,
        "constants": [],
        "programs": {},
    }


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

"""`npusim generate --board NAME`: the text comes from the simulated chip, with what it would cost on the board."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from npusim.cli.command import console, working
from npusim.cli.options.files import JsonTarget
from npusim.cli.reporters.generation import TextStream
from npusim.cli.reporters.on_board import board_run_renderables, layer_table
from npusim.llm.generation import Generation, prepare
from npusim.llm.measure import agreement, layer_errors
from npusim.llm.setup import Setup
from reference_model.generate import Sampling, stream_text
from reference_model.model import Model


@dataclass(frozen=True)
class BoardRequest:
    """What is to be generated and told.

    compare     whether to tell each layer's error
    shown       the text that a terminal shows in front of what is generated
    """

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    compare: bool
    shown: str
    json: JsonTarget


def run_on_board(model: Model, name: str, setup: Setup, request: BoardRequest) -> int:
    """Generates with `model`, called `name`, lowered as `setup` says; then reports."""
    prompt, json = request.prompt, request.json
    with working(f"quantising {name} and lowering it for {setup.board.title}"):
        run = prepare(model, setup, prompt)
    started = time.perf_counter()
    produced = run.generate(request.max_tokens, request.sampling)
    with working(f"running the prompt's {len(prompt)} tokens on the simulated chip"):
        first = list(islice(produced, 1))
    with TextStream(request.shown, quiet=json.printed) as stream:
        for piece in stream_text(model.tokenizer, chain(first, produced)):
            stream.write(piece)
    simulated_s = time.perf_counter() - started
    with working("running the float model on the same tokens"):
        report = describe(run, model, stream.text, simulated_s)
    if request.compare:
        with working("running the prompt layer by layer"):
            errors = layer_errors(model, prepare(model, setup, prompt, by_layer=True))
        report["layers"] = [{"layer": e.layer, "entire_db": e.entire, "single_db": e.single} for e in errors]
    json.write(report)
    if json.printed:
        return 0
    sys.stdout.flush()
    out = console()
    out.print(*board_run_renderables(report), sep="\n")
    if request.compare:
        out.print(layer_table(report["layers"]))
    return 0


def describe(run: Generation, model: Model, text: str, simulated_s: float) -> dict[str, Any]:
    """Everything that is reported of a run, JSON-ready. Times per token are predictions for the board."""
    setup, step = run.lowered.setup, run.step_time()
    measured = agreement(model, run.prompt, run.tokens, run.logits) if run.tokens else None
    return {
        "board": setup.board.name,
        "precision": setup.precision,
        "policy": "quest" if setup.budget else "full",
        "budget": setup.budget,
        "context": setup.context,
        "prunes": setup.prunes,
        "gather": setup.gather.value,
        "submit": setup.submit.value,
        "prompt_tokens": len(run.prompt),
        "text": text,
        "tokens": run.tokens,
        "tokens_per_second": step.tokens_per_second,
        "ms_per_token": {
            "chip": step.chip_ms,
            "cpu": step.cpu_ms,
            "submit": step.submit_ms,
            "storage": step.storage_ms,
            "total": step.ms,
        },
        "binds": step.binds,
        "ms_to_first_token": run.prefill_ms(),
        "dram_bytes_per_token": step.dram_bytes,
        "argmax_agreement": measured.argmax if measured else None,
        "kl": measured.kl if measured else None,
        "memory_map": [*run.lowered.memory.rows(), {"name": "command buffers", "num_bytes": run.lowered.command_bytes}],
        "ion_bytes": setup.memory_bytes,
        "simulated_s": simulated_s,
    }

"""`npusim generate --on BOARD`: the text comes from the simulated chip, with what it would cost on the board."""

from __future__ import annotations

import argparse
import sys
import time
from itertools import chain, islice
from typing import Any

from npusim.cli.board_options import setup_of
from npusim.cli.command import console, working, write_json
from npusim.cli.reporters.generation import TextStream
from npusim.cli.reporters.on_board import board_run_renderables, layer_table
from npusim.llm.generation import Generation, prepare
from npusim.llm.measure import agreement, layer_errors
from reference_model.generate import Sampling, stream_text
from reference_model.model import Model


def run_on_board(options: argparse.Namespace, model: Model, prompt: list[int], text: str, sampling: Sampling) -> int:
    """Generates, then reports. `options` are GenerateCommand's."""
    setup = setup_of(options, options.on, len(prompt) + options.max_tokens, model.config.context_length)
    with working(f"quantising {options.model} and lowering it for {setup.board.title}"):
        run = prepare(model, setup, prompt)
    started = time.perf_counter()
    produced = run.generate(options.max_tokens, sampling)
    with working(f"running the prompt's {len(prompt)} tokens on the simulated chip"):
        first = list(islice(produced, 1))
    with TextStream("" if options.chat else text, quiet=options.json == "-") as stream:
        for piece in stream_text(model.tokenizer, chain(first, produced)):
            stream.write(piece)
    simulated_s = time.perf_counter() - started
    with working("running the float model on the same tokens"):
        report = describe(run, model, stream.text, simulated_s)
    if options.compare:
        with working("running the prompt layer by layer"):
            errors = layer_errors(model, prepare(model, setup, prompt, by_layer=True))
        report["layers"] = [{"layer": e.layer, "entire_db": e.entire, "single_db": e.single} for e in errors]
    if options.json:
        write_json(options.json, report)
    if options.json == "-":
        return 0
    sys.stdout.flush()
    out = console()
    out.print(*board_run_renderables(report), sep="\n")
    if options.compare:
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

"""`npusim generate --board NAME`: the simulated chip generates the text, and its speed on the board is predicted."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from itertools import chain, islice

from npusim.cli.options.files import JsonTarget
from npusim.cli.printing import console
from npusim.cli.reporters.generation import TextStream
from npusim.cli.reporters.on_board import board_run_renderables, layer_table
from npusim.cli.reporters.together import together_renderables
from npusim.cli.streams import working
from npusim.llm.generation import prepare
from npusim.llm.measure import layer_errors
from npusim.llm.report import BoardReport
from npusim.llm.setup import Setup
from npusim.llm.together import TogetherReport, prepare_together
from reference_model.generation import Sampling, stream_text
from reference_model.model import Model


@dataclass(frozen=True)
class BoardRequest:
    """What to generate and what to report.

    compare     whether to report each layer's error
    shown       the text that a terminal shows before the generated text
    """

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    compare: bool
    shown: str
    json: JsonTarget


@dataclass(frozen=True)
class TogetherRequest:
    """Several texts that are to be continued at once; `shown` stands in front of each."""

    prompts: list[list[int]]
    max_tokens: int
    sampling: Sampling
    shown: list[str]
    json: JsonTarget


def run_together(model: Model, name: str, setup: Setup, request: TogetherRequest) -> int:
    """Continues all prompts with `model`, called `name`, lowered as `setup` says; then reports."""
    with working(f"quantising {name} and lowering it for {setup.board.title}"):
        run = prepare_together(model, setup, request.prompts)
    started = time.perf_counter()
    with working(f"running {len(request.prompts)} prompts on the simulated chip"):
        run.generate(request.max_tokens, request.sampling)
    report = TogetherReport.of(run, time.perf_counter() - started)
    request.json.write(report.json())
    if not request.json.printed:
        console().print(*together_renderables(report, request.shown), sep="\n")
    return 0


def run_on_board(model: Model, name: str, setup: Setup, request: BoardRequest) -> int:
    """Generates with `model`, called `name`, lowered as `setup` says, prints the report, and returns the exit code."""
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
        report = BoardReport.of(run, model, text=stream.text, simulated_s=simulated_s)
    if request.compare:
        with working("running the prompt layer by layer"):
            errors = layer_errors(model, prepare(model, setup, prompt, by_layer=True))
        report = replace(report, layers=tuple(errors))
    json.write(report.json())
    if json.printed:
        return 0
    sys.stdout.flush()
    out = console()
    out.print(*board_run_renderables(report), sep="\n")
    if request.compare:
        out.print(layer_table(report.layers))
    return 0

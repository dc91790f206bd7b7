"""`npusim llm export`: writes a bundle that a real board runs."""

from __future__ import annotations

from pathlib import Path

import reference_model
from npusim.board import MILKV_DUO_256M, Board
from npusim.cli.command import Command
from npusim.cli.options import kinds
from npusim.cli.options.boards import BoardOption, LoweringOption, WhatIfOption
from npusim.cli.options.files import JsonOutput, OutputDirectory
from npusim.cli.options.models import ModelOption, max_tokens_option
from npusim.cli.options.option import Given, Value
from npusim.cli.printing import console
from npusim.cli.reporters.on_board import no_pruning
from npusim.cli.streams import working
from npusim.llm.board.export import export_bundle, require_bundle
from npusim.llm.generation import prepare

DIRECTORY = OutputDirectory[Path](("directory",), "a new directory for the bundle")
MODEL = ModelOption()
BOARD = BoardOption[Board](default=MILKV_DUO_256M, default_words=MILKV_DUO_256M.name)
PROMPT = Value(
    ("--prompt",),
    "prompt that the bundle runs unless it is given other tokens",
    kinds.text(),
    default="And it came to pass",
)
MAX_TOKENS: Value[int] = max_tokens_option(default=16, kind=kinds.whole(0), aliases=("--steps",))
JSON = JsonOutput("what was written")
LOWERING = LoweringOption()
WHAT_IF = WhatIfOption()


class ExportCommand(Command):
    example = 'npusim llm export bundle --board duo256m --budget 16 --prompt "And it came to pass"'
    options = (DIRECTORY, MODEL, BOARD, PROMPT, MAX_TOKENS, JSON, LOWERING, WHAT_IF)

    def run(self, given: Given) -> int:
        directory, steps = given[DIRECTORY], given[MAX_TOKENS]
        with working(f"lowering {given[MODEL]}"):
            model = reference_model.load(given[MODEL])
            prompt = model.tokenizer.encode(given[PROMPT])
            board = given[WHAT_IF].of(given[BOARD])
            setup = given[LOWERING].setup(board, len(prompt) + steps, model.config.context_length)
            require_bundle(setup, prompt, directory)
            run = prepare(model, setup, prompt)
        with working("writing the bundle and its golden logits"):
            written = export_bundle(run, directory, steps)
        given[JSON].write({"directory": str(directory), "files": {p.name: p.stat().st_size for p in written}})
        if given[JSON].printed:
            return 0
        out = console()
        for path in written:
            out.print(f"{path}: {path.stat().st_size:,} bytes")
        if setup.budget and not setup.prunes:
            out.print(no_pruning(setup))
        out.print(f"on the board: python3 {directory.name}/run.py, then: npusim diff logits.npz {directory}/golden.npz")
        return 0


COMMAND = ExportCommand()

"""`npusim llm`: a language model's programs, written down for a board."""

from __future__ import annotations

import argparse
from pathlib import Path

import reference_model
from npusim.cli.board_options import add_board_options, board_names, setup_of
from npusim.cli.command import Command, console, print_json, working
from npusim.errors import UsageError
from npusim.llm.board.export import export
from npusim.llm.generation import prepare


class LlmCommand(Command):
    name = "llm"
    summary = "Write a language model as command buffers, weights and a program that runs them on a real board."
    example = 'npusim llm export bundle --on duo256m --budget 64 --prompt "And it came to pass"'

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        exporting = actions.add_parser(
            "export", help="write a bundle; copy it to the board and run `python3 run.py` there"
        )
        exporting.add_argument("directory", type=Path, metavar="DIR", help="a new directory for the bundle")
        exporting.add_argument(
            "--model", default="builtin", metavar="NAME|PATH", help="as for `npusim generate` (default: builtin)"
        )
        exporting.add_argument(
            "--on", choices=board_names(), default="duo256m", metavar="BOARD", help=f"one of {', '.join(board_names())}"
        )
        exporting.add_argument(
            "--prompt", default="And it came to pass", help="what the bundle runs unless it is given other tokens"
        )
        exporting.add_argument(
            "--steps", type=int, default=16, metavar="N", help="tokens to generate behind the prompt (default: 16)"
        )
        exporting.add_argument("--json", action="store_true", help="print what was written as JSON")
        add_board_options(exporting)

    def run(self, options: argparse.Namespace) -> int:
        if options.steps < 0:
            raise UsageError(f"--steps is {options.steps}: use 0 or more")
        with working(f"lowering {options.model}"):
            model = reference_model.load(options.model)
            prompt = model.tokenizer.encode(options.prompt)
            setup = setup_of(options, options.on, len(prompt) + options.steps, model.config.context_length)
            run = prepare(model, setup, prompt)
        with working("writing the bundle and its golden logits"):
            written = export(run, options.directory, options.steps)
        if options.json:
            print_json({"directory": str(options.directory), "files": {p.name: p.stat().st_size for p in written}})
            return 0
        out = console()
        for path in written:
            out.print(f"{path}: {path.stat().st_size:,} bytes", markup=False)
        out.print(
            f"on the board: python3 {options.directory.name}/run.py, then: npusim diff logits.npz "
            f"{options.directory}/golden.npz"
        )
        return 0

"""The vendor's spellings: `model_runner` and `npz_tool compare`, for scripts and fingers that know them."""

from __future__ import annotations

import argparse
from pathlib import Path

from npusim.cli.command import Command, console
from npusim.cli.diff import run_comparison
from npusim.cli.reporters.comparison import comparison_table
from npusim.cli.run import RunCommand


class ModelRunnerCommand(Command):
    name = "model_runner"
    summary = "`npusim run` under the vendor's name and options."
    example = "npusim model_runner --input in.npz --model mlp.cvimodel --output out.npz --dump_all_tensors"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--input", type=Path, required=True, metavar="IN.npz")
        parser.add_argument("--model", type=Path, required=True, metavar="MODEL")
        parser.add_argument("--output", type=Path, required=True, metavar="OUT.npz")
        parser.add_argument("--dump_all_tensors", "--dump-all-tensors", dest="all_tensors", action="store_true")

    def run(self, options: argparse.Namespace) -> int:
        options.json = False
        return RunCommand().run(options)


class NpzToolCommand(Command):
    name = "npz_tool"
    summary = "`npusim diff` under the vendor's name and options."
    example = "npusim npz_tool compare out.npz board.npz --tolerance 0.99,0.9 --except -"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", choices=["compare"])
        parser.add_argument("target", type=Path, metavar="TARGET")
        parser.add_argument("reference", type=Path, metavar="REFERENCE")
        parser.add_argument("--tolerance", default="0.99,0.9")
        parser.add_argument("--except", dest="excepts", default="-")
        parser.add_argument(
            "-v", "--verbose", action="count", default=0, help="accepted and ignored: everything is always shown"
        )

    def run(self, options: argparse.Namespace) -> int:
        result = run_comparison(options.target, options.reference, options.tolerance, options.excepts)
        console().print(comparison_table(result))
        console().print(result.message)
        return 0 if result else 1

"""`npusim run`: a model from inputs to outputs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from golden import read_archive, write_archive
from npusim.cli.command import Command, check_writable, console, print_json, working
from npusim.cli.reporters.tensors import tensor_rows, tensor_table
from npusim.runtime.model import Model


class RunCommand(Command):
    name = "run"
    summary = "Run a .cvimodel on the simulated chip and store its outputs."
    example = "npusim run mlp.cvimodel -i in.npz -o out.npz --all-tensors"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "model", type=Path, metavar="MODEL", help="a .cvimodel for cv180x, cv181x, cv182x or cv183x"
        )
        parser.add_argument(
            "-i", "--input", type=Path, required=True, metavar="IN.npz", help="input arrays by tensor name"
        )
        parser.add_argument(
            "-o", "--output", type=Path, required=True, metavar="OUT.npz", help="where the outputs go (.npz or .bin)"
        )
        parser.add_argument(
            "--all-tensors", action="store_true", help="store every tensor that is still in memory, not only outputs"
        )
        parser.add_argument("--json", action="store_true", help="say what was done as JSON")

    def run(self, options: argparse.Namespace) -> int:
        check_writable(options.output, options.model, options.input)
        inputs = read_archive(options.input)
        started = time.perf_counter()
        with working(f"loading {options.model}"):
            model = Model(options.model)
        loaded = time.perf_counter()
        with working(f"running {model.name} on {model.chip.name}"):
            outputs = model.forward(inputs, all_tensors=options.all_tensors)
        done = time.perf_counter()
        write_archive(options.output, outputs)
        infos = [info for info in model.tensors if info.name in outputs]
        if options.json:
            report: dict[str, Any] = {"chip": model.chip.name, "model": model.name, "output": str(options.output)}
            print_json(report | {"load_s": loaded - started, "run_s": done - loaded, "tensors": tensor_rows(infos)})
        else:
            out = console()
            out.print(
                f"{model.name} on {model.chip.name}: loaded in {loaded - started:.2f} s, ran in {done - loaded:.2f} s"
            )
            out.print(tensor_table(f"stored in {options.output}", infos))
        return 0

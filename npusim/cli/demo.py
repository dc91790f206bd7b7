"""`npusim demo`: the whole way on a bundled model, with nothing to download."""

from __future__ import annotations

import argparse
import time
from importlib.resources import as_file, files

from golden import compare, read_archive
from npusim.cli.command import Command, console, working
from npusim.cli.program import read_cmdbufs
from npusim.cli.reporters.comparison import comparison_table
from npusim.cli.reporters.tensors import tensor_table
from npusim.isa.disasm import disassemble
from npusim.runtime.model import Model

_MODEL = "step_cv181x_int8"
_INPUT = "step.in.npz"
_SHOWN_LINES = 8


class DemoCommand(Command):
    name = "demo"
    summary = "Run a bundled transformer decode step, compiled by the vendor for cv181x, and hold it against recorded results."
    example = "npusim demo"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help="show every tensor, not only the model's outputs")

    def run(self, options: argparse.Namespace) -> int:
        out, data = console(), files("golden") / "data" / "functional"
        with as_file(data / f"{_MODEL}.cvimodel") as path, as_file(data / _INPUT) as given, as_file(data / f"{_MODEL}.out.npz") as golden:
            started = time.perf_counter()
            with working("loading the model"):
                model = Model(path)
            loaded = time.perf_counter()
            with working("running it"):
                outputs = model.forward(read_archive(given), all_tensors=True)
            ran = time.perf_counter()
            out.print(f"[bold]{model.name}[/]: one decode step of a small transformer, int8, on a simulated {model.chip.name}")
            out.print(tensor_table("inputs", model.inputs))
            text = [line for name, cmdbuf in read_cmdbufs(path).items() for line in disassemble(cmdbuf, name).splitlines()]
            out.print(f"[bold]its first commands[/] (npusim disasm shows all {len(text):,})")
            for line in text[:_SHOWN_LINES]:
                out.print(f"  {line}", markup=False, soft_wrap=True)
            out.print(f"loaded in {loaded - started:.2f} s, ran in {ran - loaded:.2f} s")
            result = compare(outputs, read_archive(golden))
        shown = result if options.all else compare({i.name: outputs[i.name] for i in model.outputs}, outputs)
        out.print(comparison_table(shown))
        out.print(f"against what the vendor's functional model gave: {result.message}")
        return 0 if result else 1

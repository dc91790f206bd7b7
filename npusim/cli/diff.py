"""`npusim diff` and `npusim capture`: tensors against tensors, times against times, and tensors from a board."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from golden import ComparisonResult, compare, first_divergence, read_archive, write_archive
from golden.capture import capture
from npusim.cli.command import Command, check_writable, console, print_json, working
from npusim.cli.reporters.comparison import comparison_table
from npusim.cli.reporters.times import times_renderables
from npusim.errors import UsageError
from npusim.loader.cvimodel import load_cvimodel
from npusim.profile.pmu_csv import is_layer_csv, read_layers, read_pmu
from npusim.profile.pmu_diff import compare_layers, compare_records


class DiffCommand(Command):
    name = "diff"
    summary = (
        "Compare the tensors of two archives, or the times in two PMU files. Exit code 0: all pass; 1: some "
        "differ; 2: trouble."
    )
    example = "npusim diff out.npz board.npz --tolerance 0.99,0.9"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "target", type=Path, metavar="TARGET", help="archive in question (.npz, .bin), or a PMU file (.csv)"
        )
        parser.add_argument("reference", type=Path, metavar="REFERENCE", help="archive taken as right")
        parser.add_argument(
            "--tolerance",
            metavar="T",
            help="COSINE,EUCLIDEAN (default 0.99,0.9) or one absolute error; NAME=TOLERANCE may be added, "
            "after blanks. "
            "For PMU files the share by which times may differ (default 0.1)",
        )
        parser.add_argument(
            "--except", dest="excepts", default="-", metavar="NAMES", help="tensors to leave out, comma-separated"
        )
        parser.add_argument(
            "--model", type=Path, help="the .cvimodel: its program order tells where the first difference arose"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def run(self, options: argparse.Namespace) -> int:
        if options.target.suffix == ".csv" and options.reference.suffix == ".csv":
            return _diff_times(options)
        result = run_comparison(options.target, options.reference, options.tolerance or "0.99,0.9", options.excepts)
        order = _program_order(options.model) if options.model else [tensor.name for tensor in result.tensors]
        divergence = first_divergence(result, order)
        if options.json:
            print_json(result.to_dict() | {"first_divergence": divergence.to_dict() if divergence else None})
            return 0 if result else 1
        out = console()
        out.print(comparison_table(result))
        out.print(result.message)
        if divergence:
            where = "in program order" if options.model else "in the reference's order"
            out.print(
                f"first difference {where}: {divergence.tensor.name} (last good: {divergence.last_good or 'none'})"
            )
        return 0 if result else 1


class CaptureCommand(Command):
    name = "capture"
    summary = (
        "Run a .cvimodel through the vendor's runtime (on a board, or its x86 functional model) and store every tensor."
    )
    example = "npusim capture mlp.cvimodel -i in.npz -o board.npz --lib /usr/lib/cvitek"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "model", type=Path, metavar="MODEL", help="a .cvimodel; the runtime runs native code inside it, so trust it"
        )
        parser.add_argument(
            "-i", "--input", type=Path, required=True, metavar="IN.npz", help="input arrays by tensor name"
        )
        parser.add_argument(
            "-o", "--output", type=Path, required=True, metavar="OUT.npz", help="where every tensor goes"
        )
        default = os.environ.get("CVI_LIB") or None
        parser.add_argument(
            "--lib", type=Path, default=default, metavar="DIR", help="directory of libcviruntime.so (default: CVI_LIB)"
        )

    def run(self, options: argparse.Namespace) -> int:
        check_writable(options.output, options.model, options.input)
        inputs = read_archive(options.input)
        with working(f"running {options.model} on the vendor's runtime"):
            tensors = capture(options.model, inputs, options.lib)
        write_archive(options.output, tensors)
        console().print(f"{options.output}: {len(tensors)} tensors")
        return 0


def run_comparison(target: Path, reference: Path, tolerance: str, excepts: str) -> ComparisonResult:
    """Compares two archives with a progress bar on standard error."""
    parts = tolerance.split()
    named = dict(part.rsplit("=", 1) for part in parts if "=" in part)
    default = next((part for part in parts if "=" not in part), "0.99,0.9")
    names = [] if excepts == "-" else [name for name in excepts.split(",") if name]
    left, right = read_archive(target), read_archive(reference)
    err = Console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("comparing", total=len(set(left) & set(right)))
        return compare(left, right, {"": default, **named}, excepts=names, on_tensor=lambda _: progress.advance(task))


def _diff_times(options: argparse.Namespace) -> int:
    """Two PMU files, both of records or both of layers."""
    try:
        tolerance = float(options.tolerance or 0.1)
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < 10:
        raise UsageError(
            f"--tolerance is {options.tolerance}; for PMU files it is a share such as 0.1, from 0 to below 10"
        )
    of_layers = [is_layer_csv(path) for path in (options.target, options.reference)]
    if of_layers[0] != of_layers[1]:
        raise UsageError(
            f"{options.target} and {options.reference} are a _des.csv and a _layer.csv: compare two of one kind"
        )
    if of_layers[0]:
        result = compare_layers(read_layers(options.target), read_layers(options.reference), tolerance)
    else:
        result = compare_records(read_pmu(options.target), read_pmu(options.reference), tolerance)
    if options.json:
        print_json(result.to_dict())
    else:
        console().print(*times_renderables(result), sep="\n")
    return 0 if result else 1


def _program_order(model: Path) -> list[str]:
    return [tensor.name for program in load_cvimodel(model).programs for tensor in program.tensors]

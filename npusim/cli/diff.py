"""`npusim diff`: compares the tensors of two archives, or the times of two PMU files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from golden import ComparisonResult, Divergence, TensorResult, compare, first_divergence, read_archive
from golden.error_map import error_map
from golden.values import Array
from npusim.cli.command import Command
from npusim.cli.counting import counting
from npusim.cli.options import kinds
from npusim.cli.options.files import ArchiveInput, JsonOutput, JsonTarget, PlotOutput, write_whole
from npusim.cli.options.option import Given, OnlyWith, Value
from npusim.cli.options.programs import ProgramOption, ProgramSource
from npusim.cli.printing import console
from npusim.cli.reporters.comparison import comparison_table
from npusim.cli.reporters.error_plot import draw_errors
from npusim.cli.reporters.times import times_renderables
from npusim.cli.streams import visible
from npusim.errors import UsageError
from npusim.profile.pmu_csv import is_layer_csv, read_layers, read_pmu
from npusim.profile.pmu_diff import compare_layers, compare_records

DEFAULT_TOLERANCE = "0.99,0.9"
TARGET = ArchiveInput(("target",), "archive to judge (.npz, .bin), or a PMU file (.csv)", metavar="TARGET")
REFERENCE = ArchiveInput(("reference",), "archive with the right values, or a PMU file", metavar="REFERENCE")
TOLERANCE: Value[str | None] = Value(
    ("--tolerance",),
    "COSINE,EUCLIDEAN or one absolute error; after a blank, NAME=TOLERANCE for single tensors; for PMU files the "
    "share by which times may differ",
    kinds.text("T"),
    default=None,
    default_words=f"{DEFAULT_TOLERANCE}, for PMU files 0.1",
)
EXCEPT = Value(
    ("--except",), "tensors to leave out, comma-separated", kinds.text("NAMES"), default="-", default_words="none"
)
PROGRAM = ProgramOption[ProgramSource | None](
    ("--cvimodel",),
    only_cvimodel=True,
    required=False,
    note="its program order shows where the first difference arose",
    aliases=("--model",),
)
JSON = JsonOutput()
PLOT = PlotOutput(note="a tensor's errors: their histogram, and the largest of each channel and pixel")
TENSOR: Value[str | None] = Value(
    ("--tensor",),
    "tensor to draw",
    kinds.text("NAME"),
    default=None,
    default_words="the first that fails, else the worst",
)


class DiffCommand(Command):
    example = "npusim diff out.npz board.npz --tolerance 0.99,0.9"
    notes = """exit codes:
  0  all tensors pass
  1  some differ
  2  the files cannot be compared"""
    options = (TARGET, REFERENCE, TOLERANCE, EXCEPT, PROGRAM, JSON, OnlyWith("a picture", PLOT, (TENSOR,)))

    def run(self, given: Given) -> int:
        if given[TARGET].suffix == ".csv" and given[REFERENCE].suffix == ".csv":
            given.refuse((EXCEPT, PROGRAM, PLOT), "for PMU files")
            return _diff_times(given[TARGET], given[REFERENCE], given[TOLERANCE], given[JSON])
        order = _program_order(given[PROGRAM])
        target, reference = read_archive(given[TARGET]), read_archive(given[REFERENCE])
        result = compare_archives(target, reference, given[TOLERANCE] or DEFAULT_TOLERANCE, given[EXCEPT])
        divergence = first_divergence(result, order or [tensor.name for tensor in result.tensors])
        if (path := given[PLOT]) is not None:
            drawn = _drawn(result, divergence, given[TENSOR])
            found = error_map(target[drawn.name], reference[drawn.name])
            write_whole(path, draw_errors(drawn, found, path.suffix[1:]))
        given[JSON].write(result.to_dict() | {"first_divergence": divergence.to_dict() if divergence else None})
        if given[JSON].printed:
            return 0 if result else 1
        out = console()
        out.print(comparison_table(result))
        out.print(result.message)
        if divergence:
            where = "in program order" if order else "in the reference's order"
            name, good = visible(divergence.tensor.name), visible(divergence.last_good or "none")
            out.print(f"first difference {where}: {name} (last good: {good})")
        if given[PLOT] is not None:
            out.print(f"{given[PLOT]}: errors of {visible(drawn.name)}")
        return 0 if result else 1


COMMAND = DiffCommand()


def _drawn(result: ComparisonResult, divergence: Divergence | None, name: str | None) -> TensorResult:
    """The tensor to draw. Raises UsageError where there is none."""
    compared = [tensor for tensor in result.tensors if tensor.errors]
    if name is not None:
        compared = [tensor for tensor in compared if tensor.name == name]
    elif divergence and divergence.tensor in compared:
        return divergence.tensor
    if not compared:
        names = ", ".join(tensor.name for tensor in result.tensors if tensor.errors) or "none"
        which = "tensor" if name is None else f"tensor {name!r}"
        raise UsageError(f"no {which} was compared, so there is nothing to draw; compared were: {names}")
    return max(compared, key=lambda tensor: tensor.errors.max_rel if tensor.errors else 0)


def compare_archives(
    target: Mapping[str, Array], reference: Mapping[str, Array], tolerance: str, excepts: str
) -> ComparisonResult:
    """Compares two archives, with a progress bar on standard error. `tolerance` and `excepts` are the words of
    --tolerance and --except."""
    parts = tolerance.split()
    named = dict(part.rsplit("=", 1) for part in parts if "=" in part)
    default = next((part for part in parts if "=" not in part), DEFAULT_TOLERANCE)
    names = [] if excepts == "-" else [name for name in excepts.split(",") if name]
    with counting("comparing", len(set(target) & set(reference))) as advance:
        return compare(*(target, reference, {"": default, **named}), excepts=names, on_tensor=lambda _: advance(1))


def _diff_times(target: Path, reference: Path, given_tolerance: str | None, json: JsonTarget) -> int:
    """Compares two PMU files, both _des.csv or both _layer.csv, and returns the exit code."""
    try:
        tolerance = float(given_tolerance or 0.1)
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < 10:
        raise UsageError(
            f"--tolerance is {given_tolerance}: for PMU files give a share such as 0.1, at least 0 and below 10"
        )
    of_layers = [is_layer_csv(path) for path in (target, reference)]
    if of_layers[0] != of_layers[1]:
        raise UsageError(f"one of {target} and {reference} is a _des.csv, the other a _layer.csv: give two of one kind")
    if of_layers[0]:
        result = compare_layers(read_layers(target), read_layers(reference), tolerance)
    else:
        result = compare_records(read_pmu(target), read_pmu(reference), tolerance)
    json.write(result.to_dict())
    if not json.printed:
        console().print(*times_renderables(result), sep="\n")
    return 0 if result else 1


def _program_order(source: ProgramSource | None) -> list[str]:
    """Names of tensors in the order in which the program computes them; none without a program."""
    if source is None:
        return []
    return [tensor.name for program in source.open_cvimodel().programs for tensor in program.tensors]

"""`npusim run`: runs a model on inputs and stores its outputs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from golden import read_archive, write_archive
from golden.values import Array
from npusim.cli.command import Command
from npusim.cli.options.files import ArchiveInput, ArchiveOutput, JsonOutput, JsonTarget
from npusim.cli.options.option import Flag, Given
from npusim.cli.options.programs import NUMBER, ProgramOption, ProgramSource
from npusim.cli.printing import console
from npusim.cli.reporters.tensors import tensor_rows, tensor_table
from npusim.cli.streams import say, working
from npusim.runtime.model import Model
from npusim.runtime.tensor import TensorInfo

PROGRAM = ProgramOption[ProgramSource](only_cvimodel=True)
INPUT = ArchiveInput(("-i", "--input"), "input arrays by tensor name", metavar="IN.npz")
OUTPUT = ArchiveOutput(("-o", "--output"), "where the result goes", note="the outputs (.npz or .bin)")
ALL_TENSORS = Flag(("--all-tensors",), "store every tensor that is still in memory, not only outputs")
RESHAPE = Flag(("--reshape",), "accept inputs of the right size but another shape; the elements keep their order")
JSON = JsonOutput("what was done")

MAX_HEADER_BYTES = 64 << 10
"""More than the header of a .npy array takes."""


class RunCommand(Command):
    example = "npusim run mlp.cvimodel -i in.npz -o out.npz --all-tensors"
    options = (PROGRAM, INPUT, OUTPUT, NUMBER, ALL_TENSORS, RESHAPE, JSON)

    def run(self, given: Given) -> int:
        files = (given[PROGRAM], given[INPUT], given[OUTPUT])
        everything, reshape = given[ALL_TENSORS], given[RESHAPE]
        return run_model(*files, given[JSON], all_tensors=everything, reshape=reshape, number=given[NUMBER])


COMMAND = RunCommand()


def run_model(
    source: ProgramSource,
    given: Path,
    output: Path,
    json: JsonTarget,
    *,
    all_tensors: bool,
    reshape: bool,
    number: int = 0,
) -> int:
    """Runs program `number` of the model of `source` on the arrays in the file `given`, writes the results to `output`,
    prints a report and returns the exit code. `all_tensors` and `reshape` as in Model.forward."""
    started = time.perf_counter()
    with working(f"loading {source.path}"), source.md5():
        model = Model(source.path, program=number, verify_md5=source.verify_md5)
        source.require_chip(model.chip)
    loaded = time.perf_counter()
    inputs = read_archive(given, max_bytes=sum(map(_most_bytes, model.inputs)))
    _note_nan(inputs)
    read = time.perf_counter()
    with working(f"running {model.name} on {model.chip.name}"):
        outputs = model.forward(inputs, all_tensors, reshape=reshape)
    done = time.perf_counter()
    write_archive(output, outputs)
    infos = [info for info in model.tensors if info.name in outputs]
    report: dict[str, Any] = {"chip": model.chip.name, "model": model.name, "output": str(output)}
    json.write(report | {"load_s": loaded - started, "run_s": done - read, "tensors": tensor_rows(infos)})
    if not json.printed:
        out = console()
        which = f", program {number} of {model.num_programs}," if model.num_programs > 1 else ""
        times = f"loaded in {loaded - started:.2f} s, ran in {done - read:.2f} s"
        out.print(f"{model.name}{which} on {model.chip.name}: {times}")
        out.print(tensor_table(f"stored in {output}", infos))
    return 0


def _most_bytes(info: TensorInfo) -> int:
    """The most bytes that an input takes in an archive: float64 elements and a header."""
    return MAX_HEADER_BYTES + 8 * max(info.num_elements, info.num_bytes)


def _note_nan(inputs: Mapping[str, Array]) -> None:
    for name, array in inputs.items():
        if array.dtype.kind == "f" and (count := int(np.count_nonzero(np.isnan(array)))):
            say(
                f"note: input {name} holds {count:,} NaN in {array.size:,} numbers: results that depend on them mean "
                "nothing"
            )

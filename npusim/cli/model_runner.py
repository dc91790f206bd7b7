"""`npusim model_runner`: `npusim run` with the vendor's name and options, for scripts that use them."""

from __future__ import annotations

from npusim.cli.command import Command
from npusim.cli.options.files import ArchiveInput, ArchiveOutput, JsonTarget
from npusim.cli.options.option import Flag, Given
from npusim.cli.options.programs import ProgramOption, ProgramSource
from npusim.cli.run import RESHAPE, run_model

INPUT = ArchiveInput(("--input",), "input arrays by tensor name", metavar="IN.npz")
PROGRAM = ProgramOption[ProgramSource](("--model",), only_cvimodel=True)
OUTPUT = ArchiveOutput(("--output",), "where the result goes")
ALL_TENSORS = Flag(
    ("--dump_all_tensors", "--dump-all-tensors"), "store every tensor that is still in memory, not only outputs"
)


class ModelRunnerCommand(Command):
    example = "npusim model_runner --input in.npz --model mlp.cvimodel --output out.npz --dump_all_tensors"
    options = (INPUT, PROGRAM, OUTPUT, ALL_TENSORS, RESHAPE)

    def run(self, given: Given) -> int:
        files = (given[PROGRAM], given[INPUT], given[OUTPUT])
        return run_model(*files, JsonTarget(), all_tensors=given[ALL_TENSORS], reshape=given[RESHAPE])


COMMAND = ModelRunnerCommand()

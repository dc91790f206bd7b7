"""`npusim capture`: tensors from a board, or from the vendor's x86 library."""

from __future__ import annotations

from pathlib import Path

from golden import read_archive, write_archive
from golden.capture import capture
from npusim.cli.command import Command
from npusim.cli.options import kinds
from npusim.cli.options.files import ArchiveInput, ArchiveOutput
from npusim.cli.options.option import Given, Value
from npusim.cli.options.programs import ProgramOption, ProgramSource
from npusim.cli.printing import console
from npusim.cli.streams import working

PROGRAM = ProgramOption[ProgramSource](
    only_cvimodel=True, note="the vendor's runtime runs native code inside it, so trust it"
)
INPUT = ArchiveInput(("-i", "--input"), "input arrays by tensor name", metavar="IN.npz")
OUTPUT = ArchiveOutput(("-o", "--output"), "where the result goes", note="every tensor")
LIBRARY: Value[Path | None] = Value(
    ("--lib",), "directory of libcviruntime.so", kinds.path("DIR"), default=None, default_words="CVI_LIB"
)


class CaptureCommand(Command):
    example = "npusim capture mlp.cvimodel -i in.npz -o board.npz --lib /usr/lib/cvitek"
    options = (PROGRAM, INPUT, OUTPUT, LIBRARY)

    def run(self, given: Given) -> int:
        source, output = given[PROGRAM], given[OUTPUT]
        if source.verify_md5 or source.chip:  # the vendor's runtime checks neither
            source.open_cvimodel()
        inputs = read_archive(given[INPUT])
        with working(f"running {source.path} on the vendor's runtime"):
            tensors = capture(source.path, inputs, given[LIBRARY])
        write_archive(output, tensors)
        console().print(f"{output}: {len(tensors)} tensors")
        return 0


COMMAND = CaptureCommand()

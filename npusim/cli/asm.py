"""`npusim asm`: command buffers from text."""

from __future__ import annotations

from pathlib import Path

from npusim.cli.command import Command
from npusim.cli.options.files import InputFile, OutputFile, write_whole
from npusim.cli.options.option import Given
from npusim.cli.options.outputs import Output, check_outputs
from npusim.cli.printing import console
from npusim.errors import FileFormatError, UsageError
from npusim.program.asm import assemble

TEXT = InputFile[Path](("text",), "a file as `npusim disasm` prints it", metavar="TEXT")
OUTPUT = OutputFile[Path](
    ("-o", "--output"), "where the result goes", note="a command buffer; several become OUT.SECTION", metavar="OUT"
)


class AsmCommand(Command):
    example = "npusim asm mlp.s -o mlp.cmdbuf"
    options = (TEXT, OUTPUT)

    def run(self, given: Given) -> int:
        source, output = given[TEXT], given[OUTPUT]
        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {source}: {error}") from None
        try:
            parts = assemble(text)
        except FileFormatError as error:
            raise FileFormatError(f"{source}: {error}") from None
        if not parts:
            raise FileFormatError(f"{source} holds no command; `npusim disasm` shows the form")
        several = len(parts) > 1
        paths = [output.with_name(f"{output.name}.{part.section}") if several else output for part in parts]
        check_outputs([Output(path) for path in paths], [source])
        for path, part in zip(paths, parts, strict=True):
            write_whole(path, part.data)
            console().print(f"{path}: {len(part.data):,} bytes for {part.chip.name}")
        return 0


COMMAND = AsmCommand()

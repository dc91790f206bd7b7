"""`npusim disasm`: a program's commands as text."""

from __future__ import annotations

from npusim.cli.command import Command
from npusim.cli.options.files import JsonOutput
from npusim.cli.options.option import Given
from npusim.cli.options.programs import ProgramOption, ProgramSource
from npusim.cli.streams import working
from npusim.program.disasm import disassemble, disassemble_json

PROGRAM = ProgramOption[ProgramSource]()
JSON = JsonOutput("every field that is not 0")


class DisasmCommand(Command):
    example = "npusim disasm mlp.cvimodel > mlp.s"
    options = (PROGRAM, JSON)

    def run(self, given: Given) -> int:
        with working(f"reading {given[PROGRAM].path}"):
            cmdbufs = list(given[PROGRAM].open().cmdbufs.items())
        if json := given[JSON]:
            json.write([{"section": name, "chip": c.chip.name, "commands": disassemble_json(c)} for name, c in cmdbufs])
        if not json.printed:
            for name, cmdbuf in cmdbufs:
                print(disassemble(cmdbuf, name), end="")
        return 0


COMMAND = DisasmCommand()

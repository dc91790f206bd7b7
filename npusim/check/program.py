"""`check_program`: checks a program file, an opened one, or one that a KernelBuilder built."""

from __future__ import annotations

from pathlib import Path

from npusim.check.checker import check
from npusim.check.finding import Findings
from npusim.check.model import check_model
from npusim.kernels.program import Program
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.open import ProgramFile, open_program


def check_program(
    program: str | Path | ProgramFile | Program, *, chip: str | None = None, verify_md5: bool = True
) -> Findings:
    """What is wrong with `program`; of a .cvimodel, with each of its programs in turn.

    `program` is the path of a .cvimodel, a command buffer or a dmabuf (`chip` and `verify_md5` as in open_program), an
    opened ProgramFile, or the result of KernelBuilder.build. Raises what open_program raises, and NpusimError if a file
    contradicts itself."""
    if isinstance(program, str | Path):
        program = open_program(program, chip=chip, verify_md5=verify_md5)
    if isinstance(program, Program):
        return Findings(check([parse_cmdbuf(program.chip, data) for data in program.cmdbufs]))
    if program.model is None:
        return Findings(check(list(program.cmdbufs.values())))
    numbers = range(len(program.model.programs))
    return Findings(finding for number in numbers for finding in check_model(program.model, number))

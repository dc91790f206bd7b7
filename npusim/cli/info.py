"""`npusim info`: what is in a .cvimodel."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from npusim.cli.command import Command
from npusim.cli.options.files import JsonOutput
from npusim.cli.options.option import Given
from npusim.cli.options.programs import ProgramOption, ProgramSource
from npusim.cli.printing import console
from npusim.cli.reporters.model import info_renderables
from npusim.cli.reporters.tensors import tensor_rows
from npusim.cli.streams import working
from npusim.errors import FileFormatError
from npusim.loader.cvimodel_types import CpuRoutine, Cvimodel
from npusim.program.disasm import commands
from npusim.program.model import named_cmdbufs
from npusim.runtime.frame import FRAME_ALIGNMENT, tensor_bytes
from npusim.runtime.ion import ion_use
from npusim.runtime.tensor import TensorInfo, info_of_tensor

PROGRAM = ProgramOption[ProgramSource](only_cvimodel=True)
JSON = JsonOutput()


class InfoCommand(Command):
    example = "npusim info mlp.cvimodel"
    options = (PROGRAM, JSON)

    def run(self, given: Given) -> int:
        with working(f"reading {given[PROGRAM].path}"):
            data = describe(given[PROGRAM].open_cvimodel())
        given[JSON].write(data)
        if not given[JSON].printed:
            console().print(*info_renderables(data), sep="\n")
        return 0


COMMAND = InfoCommand()


def describe(model: Cvimodel) -> dict[str, Any]:
    """Everything that `npusim info` shows, JSON-ready."""
    return {
        "chip": model.chip.name,
        "name": model.name,
        "version": ".".join(map(str, model.version)),
        "built": model.build_time,
        "compiler": model.mlir_version,
        "sections": [
            {
                "name": s.name,
                "kind": s.kind.name,
                "num_bytes": s.num_bytes,
                "decompressed_bytes": s.decompressed_bytes,
                "encrypted": s.encrypted,
            }
            for s in model.sections
        ],
        "programs": [_program(model, i) for i in range(len(model.programs))],
        "instructions": {
            name: dict(Counter(c.mnemonic for c in commands(cmdbuf)).most_common())
            for name, cmdbuf in named_cmdbufs(model, encrypted=False).items()
        },
    }


def _program(model: Cvimodel, number: int) -> dict[str, Any]:
    program, ion = model.programs[number], ion_use(model, number)
    return {
        "batch": program.batch,
        "shared_bytes": program.shared_bytes,
        "private_bytes": program.private_bytes,
        "ion_bytes": asdict(ion) | {"total": ion.total},
        "fits": {board.name: fits for board, fits in ion.boards(model.chip.name).items()},
        "inputs": _rows(model, program.inputs, number),
        "outputs": _rows(model, program.outputs, number),
        "num_tensors": len(program.tensors),
        "tensor_types": dict(Counter(tensor.dtype.name for tensor in program.tensors).most_common()),
        "routines": [
            {"kind": "CPU", "function": r.function}
            if isinstance(r, CpuRoutine)
            else {"kind": "TPU", "section": r.section}
            for r in program.routines
        ],
    }


def _rows(model: Cvimodel, names: tuple[str, ...], program: int) -> list[dict[str, Any]]:
    return tensor_rows(_info(model, name, program) for name in names)


def _info(model: Cvimodel, name: str, program: int) -> TensorInfo:
    for tensor in model.programs[program].tensors:
        if tensor.name == name:
            return info_of_tensor(tensor, tensor_bytes(tensor, FRAME_ALIGNMENT[model.chip.name]))
    raise FileFormatError(f"program {program} names a tensor {name!r} that it does not define")

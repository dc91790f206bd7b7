"""`npusim info`, `disasm` and `asm`: what is in a file, and its commands as text."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from npusim.chip import CHIPS
from npusim.cli.command import Command, check_writable, console, print_json, working, write_whole
from npusim.cli.reporters.model import info_renderables
from npusim.cli.reporters.tensors import tensor_rows
from npusim.errors import FileFormatError, UsageError
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import CpuRoutine, Cvimodel
from npusim.program.asm import assemble
from npusim.program.disasm import commands, disassemble, disassemble_json
from npusim.program.model import named_cmdbufs
from npusim.program.open import open_program
from npusim.runtime.frame import FRAME_ALIGNMENT, tensor_bytes
from npusim.runtime.tensor import TensorInfo, info_of_tensor


class InfoCommand(Command):
    name = "info"
    summary = "Show what a .cvimodel holds: tensors, routines, sections, memory, instructions."
    example = "npusim info mlp.cvimodel"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", type=Path, metavar="MODEL", help="a .cvimodel")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def run(self, options: argparse.Namespace) -> int:
        with working(f"reading {options.model}"):
            model = load_cvimodel(options.model)
            data = describe(model)
        if options.json:
            print_json(data)
        else:
            console().print(*info_renderables(data), sep="\n")
        return 0


class DisasmCommand(Command):
    name = "disasm"
    summary = (
        "Print the commands of a .cvimodel, command buffer or dmabuf as text that `npusim asm` turns back into "
        "the same bytes."
    )
    example = "npusim disasm mlp.cvimodel > mlp.s"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", type=Path, metavar="MODEL", help="a .cvimodel, a raw command buffer or a dmabuf")
        parser.add_argument(
            "--chip",
            choices=[chip.name for chip in CHIPS],
            help="chip of a dmabuf (its header does not tell all apart)",
        )
        parser.add_argument("--json", action="store_true", help="print JSON with every field that is not 0")

    def run(self, options: argparse.Namespace) -> int:
        with working(f"reading {options.model}"):
            cmdbufs = list(open_program(options.model, chip=options.chip).cmdbufs.items())
        if options.json:
            print_json([{"section": name, "chip": c.chip.name, "commands": disassemble_json(c)} for name, c in cmdbufs])
            return 0
        for name, cmdbuf in cmdbufs:
            print(disassemble(cmdbuf, name), end="")
        return 0


class AsmCommand(Command):
    name = "asm"
    summary = "Turn the text of `npusim disasm` back into command buffers."
    example = "npusim asm mlp.s -o mlp.cmdbuf"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("text", type=Path, metavar="TEXT", help="a file as `npusim disasm` prints it")
        parser.add_argument(
            "-o", "--output", type=Path, required=True, metavar="OUT", help="command buffer; several become OUT.SECTION"
        )

    def run(self, options: argparse.Namespace) -> int:
        check_writable(options.output, options.text)
        try:
            text = options.text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {options.text}: {error}") from None
        try:
            parts = assemble(text)
        except FileFormatError as error:
            raise FileFormatError(f"{options.text}: {error}") from None
        if not parts:
            raise FileFormatError(f"{options.text} holds no command; `npusim disasm` shows the form")
        for part in parts:
            path = (
                options.output if len(parts) == 1 else options.output.with_name(f"{options.output.name}.{part.section}")
            )
            write_whole(path, part.data)
            console().print(f"{path}: {len(part.data):,} bytes for {part.chip.name}")
        return 0


def describe(model: Cvimodel) -> dict[str, Any]:
    """Everything that `npusim info` tells, JSON-ready."""
    counts = {name: Counter(c.mnemonic for c in commands(cmdbuf)) for name, cmdbuf in named_cmdbufs(model).items()}
    return {
        "chip": model.chip.name,
        "name": model.name,
        "version": ".".join(map(str, model.version)),
        "built": model.build_time,
        "compiler": model.mlir_version,
        "sections": [
            {"name": s.name, "kind": s.kind.name, "num_bytes": s.num_bytes, "decompressed_bytes": s.decompressed_bytes}
            for s in model.sections
        ],
        "programs": [
            {
                "batch": program.batch,
                "shared_bytes": program.shared_bytes,
                "private_bytes": program.private_bytes,
                "inputs": _rows(model, program.inputs, i),
                "outputs": _rows(model, program.outputs, i),
                "num_tensors": len(program.tensors),
                "routines": [
                    {"kind": "CPU", "function": r.function}
                    if isinstance(r, CpuRoutine)
                    else {"kind": "TPU", "section": r.section}
                    for r in program.routines
                ],
            }
            for i, program in enumerate(model.programs)
        ],
        "instructions": {name: dict(count.most_common()) for name, count in counts.items()},
    }


def _rows(model: Cvimodel, names: tuple[str, ...], program: int) -> list[dict[str, Any]]:
    return tensor_rows(_info(model, name, program) for name in names)


def _info(model: Cvimodel, name: str, program: int) -> TensorInfo:
    for tensor in model.programs[program].tensors:
        if tensor.name == name:
            return info_of_tensor(tensor, tensor_bytes(tensor, FRAME_ALIGNMENT[model.chip.name]))
    raise FileFormatError(f"program {program} names a tensor {name!r} that it does not define")

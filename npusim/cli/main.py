"""Parses the command line, runs one command, and turns expected failures into one sentence and an exit code.

Exit codes: 0 done, or the same; 1 tensors differ, or a check found errors; 2 trouble.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from npusim.cli.asm import AsmCommand
from npusim.cli.capacity import CapacityCommand
from npusim.cli.capture import CaptureCommand
from npusim.cli.check import CheckCommand
from npusim.cli.command import Command
from npusim.cli.demo import DemoCommand
from npusim.cli.diff import DiffCommand
from npusim.cli.disasm import DisasmCommand
from npusim.cli.eval import EvalCommand
from npusim.cli.generate import GenerateCommand
from npusim.cli.info import InfoCommand
from npusim.cli.llm import LlmCommand
from npusim.cli.model import ModelCommand
from npusim.cli.model_runner import ModelRunnerCommand
from npusim.cli.npz_tool import NpzToolCommand
from npusim.cli.parser import parse
from npusim.cli.profile import ProfileCommand
from npusim.cli.run import RunCommand
from npusim.cli.train import TrainCommand
from npusim.project_errors import ERRORS

COMMANDS: tuple[Command, ...] = (
    RunCommand(),
    InfoCommand(),
    DisasmCommand(),
    AsmCommand(),
    CheckCommand(),
    ProfileCommand(),
    DiffCommand(),
    CaptureCommand(),
    DemoCommand(),
    GenerateCommand(),
    LlmCommand(),
    CapacityCommand(),
    EvalCommand(),
    TrainCommand(),
    ModelCommand(),
    ModelRunnerCommand(),
    NpzToolCommand(),
)

TROUBLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `npusim` with `arguments` (default: the process's) and returns its exit code."""
    try:
        command, given = parse(COMMANDS, sys.argv[1:] if arguments is None else arguments)
        code = command.run(given)
        sys.stdout.flush()
        return code
    except ERRORS as error:
        print(f"npusim: {error}", file=sys.stderr)
        return TROUBLE
    except BrokenPipeError:
        # The reader of a pipe has seen enough; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("npusim: interrupted", file=sys.stderr)
        return 130

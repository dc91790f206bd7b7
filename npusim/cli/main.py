"""Parses the command line, runs one command, and turns expected failures into one sentence and an exit code.

Exit codes: 0 done, or the same; 1 tensors differ, or a check found errors; 2 trouble.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from golden import GoldenError
from kv.errors import KVError
from npusim import __version__
from npusim.cli.capacity import CapacityCommand
from npusim.cli.check import CheckCommand
from npusim.cli.command import Command
from npusim.cli.demo import DemoCommand
from npusim.cli.diff import CaptureCommand, DiffCommand
from npusim.cli.eval import EvalCommand
from npusim.cli.generate import GenerateCommand
from npusim.cli.llm import LlmCommand
from npusim.cli.model import ModelCommand
from npusim.cli.profile import ProfileCommand
from npusim.cli.program import AsmCommand, DisasmCommand, InfoCommand
from npusim.cli.run import RunCommand
from npusim.cli.train import TrainCommand
from npusim.cli.vendor import ModelRunnerCommand, NpzToolCommand
from npusim.errors import NpusimError
from reference_model import ModelError

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


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="npusim", description="Runs CVITEK CV18xx TPU programs, bit for bit, without a board."
    )
    parser.add_argument("--version", action="version", version=f"npusim {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary,
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.prepare_parser(sub)
        sub.set_defaults(command=command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `npusim` with `arguments` (default: the process's) and returns its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        code: int = options.command.run(options)
        sys.stdout.flush()
        return code
    except (NpusimError, GoldenError, ModelError, KVError) as error:
        print(f"npusim: {error}", file=sys.stderr)
        return TROUBLE
    except BrokenPipeError:
        # The reader of a pipe has seen enough; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("npusim: interrupted", file=sys.stderr)
        return 130

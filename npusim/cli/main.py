"""Parses the command line, runs one command, and turns expected failures into one sentence and an exit code.

Exit codes: 0 done, or the same; 1 tensors differ, or a check found errors; 2 trouble.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import npusim
from npusim.cli.commands import COMMANDS
from npusim.cli.parser import parse

TROUBLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `npusim` with `arguments` (default: the process's) and returns its exit code."""
    try:
        command, given = parse(COMMANDS, sys.argv[1:] if arguments is None else arguments)
        code = command.run(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of a pipe has seen enough; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("npusim: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not isinstance(error, npusim.ERRORS):  # asked for here: --help and --version do without these packages
            raise
        print(f"npusim: {error}", file=sys.stderr)
        return TROUBLE

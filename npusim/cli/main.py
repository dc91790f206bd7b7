"""Parses the command line, runs one command, and turns expected failures into one sentence and an exit code.

Exit codes: 0 done, or the same; 1 tensors differ, or a check found errors; 2 trouble.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import npusim
from npusim.cli.commands import COMMANDS
from npusim.cli.parser import parse
from npusim.cli.streams import abandon, prepare_streams, say

TROUBLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `npusim` with `arguments` (default: the process's) and returns its exit code."""
    try:
        prepare_streams()
        try:
            command, given = parse(COMMANDS, sys.argv[1:] if arguments is None else arguments)
            return command.run(given)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:
        return _trouble("standard output was closed by its reader before everything was written")
    except OSError as error:
        what = "standard output" if error.filename is None else error.filename
        return _trouble(f"cannot read or write {what}: {error.strerror or error}")
    except MemoryError:
        return _trouble("this machine does not have enough memory: close other programs, or give smaller files")
    except Exception as error:
        if not isinstance(error, npusim.ERRORS):  # not imported above: --help and --version do not need these packages
            raise
        say(str(error))
        return TROUBLE


def _trouble(what: str) -> int:
    """Reports a failure that may have left standard output half written, drops what is still buffered there, and
    returns exit code 2."""
    abandon(sys.stdout)
    say(what)
    return TROUBLE

"""Runs a command in whose Python processes `pyruntime_cvi` is npusim's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from npusim.errors import UsageError

_FRONT = Path(__file__).parents[1] / "data" / "as_runtime"
"""The folder with npusim's pyruntime_cvi.py, and sitecustomize.py, which makes Python prefer it to another one. It is
not a package: only processes with this folder on PYTHONPATH import from it."""
_JOURNAL = "NPUSIM_AS_RUNTIME"
"""Environment variable with the path of a file. Each process that imports pyruntime_cvi writes a line into it."""


def run_as_runtime(words: Sequence[str]) -> tuple[int, bool]:
    """Runs the command `words`. -> (exit code, whether any of its processes imported pyruntime_cvi). The exit code is
    128 plus the signal's number if a signal ended it.

    Raises UsageError if there is no such command, OSError if it cannot be started."""
    line = _command_line(words)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "imported"
        path = os.pathsep.join(filter(None, (str(_FRONT), os.environ.get("PYTHONPATH"))))
        code = subprocess.run(line, env={**os.environ, "PYTHONPATH": path, _JOURNAL: str(journal)}).returncode
        return code if code >= 0 else 128 - code, journal.exists()


def _command_line(words: Sequence[str]) -> list[str]:
    """`words` with the first one resolved: to a command on PATH, or to Python and a Python file, which need not be
    executable."""
    if not words:
        raise UsageError("there is no command to run: name it, as in `npusim as-runtime -- model_deploy.py --help`")
    name, *rest = words
    if found := shutil.which(name):
        return [found, *rest]
    if name.endswith(".py") and Path(name).is_file():
        return [sys.executable, name, *rest]
    raise UsageError(
        f"there is no command {name!r} on PATH, nor a Python file of that name: give a path, or activate the "
        "environment that has it"
    )

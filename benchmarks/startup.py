"""CPU time of whole processes of the command line, compared with one that only imports NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from benchmarks.claim import Say
from benchmarks.cpu import Timer, take_turns

TURNS = 11
DATA = Path(__file__).parents[1] / "golden" / "data" / "functional"
NPUSIM = ("-m", "npusim.cli")


def help(say: Say) -> float:
    """How many times as long as importing NumPy `npusim --help` takes."""
    return _times(say, *NPUSIM, "--help")


def run(say: Say) -> float:
    """How many times as long as importing NumPy `npusim run` of a small MLP takes."""
    with tempfile.TemporaryDirectory() as folder:
        model, given, out = DATA / "mlp_cv181x_int8.cvimodel", DATA / "mlp.in.npz", Path(folder, "out.npz")
        return _times(say, *NPUSIM, "run", str(model), "-i", str(given), "-o", str(out))


def _times(say: Say, *words: str) -> float:
    turns = take_turns({"npusim": _process(*words), "NumPy": _process("-c", "import numpy")}, TURNS)
    say("   ".join(f"{side} {turns.median(side):.3f} s" for side in turns.seconds))
    return turns.ratio("npusim", "NumPy")


def _process(*words: str) -> Timer:
    """A timer of a Python process, which may write bytecode as it does for an installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def timer() -> float:
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
        after = getrusage(RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return timer

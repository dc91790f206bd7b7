"""The last figures: benchmarks/results.json, with one entry for each claim."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Conditions:
    """Where and when something was measured. `cores` is the number that the process could use. A "+" after the commit
    means that there were uncommitted changes."""

    date: str
    cpu: str
    cores: int
    python: str
    numpy: str
    commit: str
    note: str


@dataclass(frozen=True)
class Result:
    """The last figure of a claim in its unit, or None with the `reason` why there is none; and the CPU `seconds` that
    measuring took."""

    figure: float | None
    reason: str
    seconds: float
    conditions: Conditions


def conditions(note: str) -> Conditions:
    return Conditions(
        date.today().isoformat(),
        _cpu(),
        len(os.sched_getaffinity(0)),
        platform.python_version(),
        version("numpy"),
        _commit(),
        note,
    )


def read_results(path: Path) -> dict[str, Result]:
    """The last result of each claim by its name; empty if nothing was recorded yet."""
    if not path.exists():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Result(**{**entry, "conditions": Conditions(**entry["conditions"])}) for name, entry in entries.items()
    }


def record(new: Mapping[str, Result], path: Path) -> None:
    """Writes the results `new` into the file at `path`, which is written whole or not at all.

    A result without a figure does not replace one with a figure."""
    from golden.whole import replacing

    kept = read_results(path)
    for name, result in new.items():
        if result.figure is not None or name not in kept or kept[name].figure is None:
            kept[name] = result
    text = json.dumps({name: asdict(kept[name]) for name in sorted(kept)}, indent=1, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _cpu() -> str:
    """The processor's name if Linux gives it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The short hash of the commit in the work tree, with "+" if there are uncommitted changes."""
    try:
        commit, changes = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short=10", "HEAD"], ["diff", "--stat", "HEAD", "--", ":!*/results.json"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changes else "")

"""How many seeded faults `npusim check` finds in vendor-compiled programs, and how long it takes.

    python -m benchmarks.check [--count 1000] [--seed 1] [FILE.cvimodel ...]

Faults are seeded into the models of golden/data/functional (tests/support/faults.py tells of what kinds, and how it
makes sure, by running them, that each one matters). A fault counts as found where `check` reports an error; without a
fault it reports none. "named" counts those where an error names a command that has to do with the fault; of a removed
load nothing is left to name. "raw" counts those found in the command buffer alone, without what the file says of
GMEM. FILEs are only timed."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from npusim.check import Severity, check, check_model
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import TpuRoutine
from npusim.program.model import section_cmdbufs
from tests.support.faults import MAKERS, Fault, Subject, draw_faults

MODELS = sorted((Path(__file__).parents[1] / "golden" / "data" / "functional").glob("*.cvimodel"))
SHARES = {"wait lowered": 0.4, "load removed": 0.35, "buffer moved": 0.25}
"""How the kinds divide the count."""


def seeded(count: int, seed: int, models: Sequence[Path] = MODELS, tries: int = 400) -> Iterator[Fault]:
    """About `count` different faults over `models`, as even as each has room for them."""
    subjects = [Subject(path) for path in models]
    for kind, share in SHARES.items():
        left = round(count * share)
        for i, subject in enumerate(subjects):
            rng = np.random.default_rng((seed, i, *kind.encode()))
            # Models that have room for few leave theirs to the ones behind them, the smallest of which come first.
            faults = draw_faults(rng, subject, kind, -(-left // (len(subjects) - i)), tries)
            left -= len(faults)
            yield from faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    options = parser.parse_args()
    time_files([*MODELS, *options.files])
    return count_found(options.count, options.seed)


def time_files(paths: Sequence[Path]) -> None:
    """A line for each file: errors (0 for a program as it was compiled), commands, CPU seconds, microseconds a
    command."""
    for path in paths:
        file = load_cvimodel(path, verify_md5=False)
        routines = [r for program in file.programs for r in program.routines if isinstance(r, TpuRoutine)]
        commands = sum(cmdbuf.num_commands for r in routines for cmdbuf in section_cmdbufs(file, r.section))
        started = time.process_time()
        counts = Counter(finding.severity.value for i in range(len(file.programs)) for finding in check_model(file, i))
        seconds = time.process_time() - started
        said = ", ".join(f"{count} {severity}s" for severity, count in counts.items()) or "nothing found"
        print(
            f"{path.stem:28} {commands:6} commands {seconds:7.3f} s CPU {seconds / commands * 1e6:6.0f} us a command "
            f"  {said}"
        )


def count_found(count: int, seed: int) -> int:
    total: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    named: Counter[tuple[str, str]] = Counter()
    raw: Counter[tuple[str, str]] = Counter()
    rules: Counter[tuple[str, str]] = Counter()
    assert set(SHARES) == set(MAKERS)
    for fault in seeded(count, seed):
        chip = fault.cmdbuf.chip.name
        errors = [f for f in check_model(fault.model()) if f.severity == Severity.ERROR]
        found_raw = any(f.severity == Severity.ERROR for f in check(fault.cmdbuf))
        for key in ((fault.kind, chip), (fault.kind, "all"), ("all", chip), ("all", "all")):
            total[key] += 1
            found[key] += bool(errors)
            raw[key] += found_raw
            named[key] += any(fault.commands & set(error.commands) for error in errors)
        rules.update({(fault.kind, error.kind.value) for error in errors})
        if not errors:
            print(f"missed: {fault.path.stem} {fault.section}: {fault.what}")
    for kind in (*MAKERS, "all"):
        for chip in ("cv180x", "cv181x", "cv182x", "cv183x", "all"):
            n = total[kind, chip]
            if n:
                counts = f"{n:5} seeded {found[kind, chip]:5} found {found[kind, chip] / n:6.1%}"
                print(f"{kind:14} {chip:7} {counts}   {named[kind, chip]:5} named {raw[kind, chip]:5} raw")
    for (kind, rule), number in sorted(rules.items(), key=lambda item: (item[0][0], -item[1])):
        print(f"{kind:14} {number:5} by the rule {rule!r}")
    return 0 if found["all", "all"] >= 0.95 * total["all", "all"] else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""How many seeded faults `npusim check` finds in vendor-compiled programs, and how long it takes.

Faults are seeded into the models of golden/data/functional (tests/support/faults.py tells of what kinds, and how it
makes sure, by running them, that each one matters). A fault counts as found where `check` reports an error. "named"
counts those where an error names a command that has to do with the fault; of a removed load nothing is left to name.
"raw" counts those found in the command buffer alone, without what the file says of GMEM."""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.claim import Say
from benchmarks.cpu import median_seconds
from benchmarks.needs import TIMING_FILES
from npusim.check import Severity, check, check_model
from npusim.loader.cvimodel import load_cvimodel, parse_cvimodel
from npusim.loader.cvimodel_types import Cvimodel, TpuRoutine
from npusim.program.model import section_cmdbufs
from tests.support.faults import MAKERS, Fault, Subject, draw_faults

MODELS = sorted((Path(__file__).parents[1] / "golden" / "data" / "functional").glob("*.cvimodel"))
SHARES = {"wait lowered": 0.4, "load removed": 0.35, "buffer moved": 0.25}
"""How the kinds divide the count."""
COUNT, SEED = 1000, 77
"""No rule of the checker was made with this seed."""
LARGEST = "resnet18_cv180x_int8.cvimodel.xz"


def seeded(count: int, seed: int, models: Sequence[Path] = MODELS, tries: int = 400) -> Iterator[Fault]:
    """About `count` different faults over `models`, as even as each has room for them."""
    assert set(SHARES) == set(MAKERS)
    subjects = [Subject(path) for path in models]
    for kind, share in SHARES.items():
        left = round(count * share)
        for i, subject in enumerate(subjects):
            rng = np.random.default_rng((seed, i, *kind.encode()))
            # Models that have room for few leave theirs to the ones behind them, the smallest of which come first.
            faults = draw_faults(rng, subject, kind, -(-left // (len(subjects) - i)), tries)
            left -= len(faults)
            yield from faults


def found(say: Say) -> float:
    """Percent of the seeded faults in which `check` finds an error."""
    counts: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in ("seeded", "found", "named", "raw")}
    rules: Counter[tuple[str, str]] = Counter()
    for fault in seeded(COUNT, SEED):
        chip = fault.cmdbuf.chip.name
        errors = [f for f in check_model(fault.model()) if f.severity == Severity.ERROR]
        happened = {
            "seeded": True,
            "found": bool(errors),
            "named": any(fault.commands & set(error.commands) for error in errors),
            "raw": any(f.severity == Severity.ERROR for f in check(fault.cmdbuf)),
        }
        for key in ((fault.kind, chip), (fault.kind, "all"), ("all", "all")):
            for name, value in happened.items():
                counts[name][key] += value
        rules.update({(fault.kind, error.kind.value) for error in errors})
        if not errors:
            say(f"missed: {fault.path.stem} {fault.section}: {fault.what}")
    for key in sorted(counts["seeded"]):
        say(f"{key[0]:14} {key[1]:7} " + "   ".join(f"{counts[name][key]:5} {name}" for name in counts))
    for (kind, rule), times in sorted(rules.items(), key=lambda item: (item[0][0], -item[1])):
        say(f"{kind:14} {times:5} by the rule {rule!r}")
    return 100 * counts["found"]["all", "all"] / counts["seeded"]["all", "all"]


def per_command(say: Say) -> float:
    """CPU milliseconds of `check` a command: the most of the 32 models."""
    return max(1000 * _seconds_a_command(path.stem, load_cvimodel(path), say) for path in MODELS)


def largest(say: Say) -> float:
    """CPU seconds of `check` on the largest program at hand."""
    file = parse_cvimodel(lzma.decompress((TIMING_FILES.path() / LARGEST).read_bytes()), verify_md5=False)
    return _seconds_a_command(LARGEST.partition(".")[0], file, say, 1) * _num_commands(file)


def _num_commands(file: Cvimodel) -> int:
    routines = [r for program in file.programs for r in program.routines if isinstance(r, TpuRoutine)]
    return sum(cmdbuf.num_commands for r in routines for cmdbuf in section_cmdbufs(file, r.section))


def _seconds_a_command(name: str, file: Cvimodel, say: Say, turns: int = 3) -> float:
    def check_all() -> list[str]:
        return [finding.severity.value for i in range(len(file.programs)) for finding in check_model(file, i)]

    commands, counts = _num_commands(file), Counter(check_all())
    seconds = median_seconds(check_all, turns)
    said = ", ".join(f"{count} {severity}s" for severity, count in counts.items()) or "nothing found"
    say(f"{name:24} {commands:6} commands {seconds:7.3f} s {1e6 * seconds / commands:6.0f} us a command   {said}")
    return seconds / commands

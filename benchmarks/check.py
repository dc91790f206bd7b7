"""How many seeded faults `npusim check` finds, for how many correct programs it reports errors, and how long it takes.

Faults of nine kinds are seeded into the models of golden/data/functional (tests/support/faults.py). Whether a fault
changes anything is decided by running the program in two orders of the engines with two fills of memory
(tests/support/oracle.py). A fault counts as found if `check` reports an error. "named" counts faults for which an error
names a command of the fault; a dropped load has none left. "raw" counts faults found in the command buffer alone,
without what the file says about GMEM. Addresses that are wrong but legal are counted separately."""

from __future__ import annotations

import importlib
import lzma
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.claim import Say
from benchmarks.cpu import median_seconds
from benchmarks.needs import TIMING_FILES
from npusim.check import Finding, Severity, check, check_model
from npusim.chip import CHIPS
from npusim.loader.cvimodel import load_cvimodel, parse_cvimodel
from npusim.loader.cvimodel_types import Cvimodel, TpuRoutine
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.model import section_cmdbufs
from tests.support.faults import MAKERS, Fault, draw_faults
from tests.support.oracle import Subject

MODELS = sorted((Path(__file__).parents[1] / "golden" / "data" / "functional").glob("*.cvimodel"))
APART = "address wrong"
COUNT, SEED = 1000, 77
"""Number of faults of all kinds except APART, and the seed. No rule of the checker was made with this seed."""
LARGEST = "resnet18_cv180x_int8.cvimodel.xz"


def sound_subjects(models: Sequence[Path] = MODELS) -> Iterator[Subject]:
    """The models that compute the same in both orders with both fills."""
    for path in models:
        subject = Subject(path)
        if all(subject.is_sound(section) for section in subject.cmdbufs):
            yield subject


def seeded(count: int, seed: int, models: Sequence[Path] = MODELS, tries: int = 400) -> Iterator[Fault]:
    """`count` different faults in the correct ones of `models`, spread as evenly over kinds and models as possible; and
    in addition as many of the kind APART as of each other kind."""
    subjects = list(sound_subjects(models))
    for kind in MAKERS:
        left = -(-count // (len(MAKERS) - 1))
        for i, subject in enumerate(subjects):
            rng = np.random.default_rng((seed, *subject.path.stem.encode(), *kind.encode()))
            # What a model has no room for is left to the models after it.
            faults = draw_faults(rng, subject, kind, -(-left // (len(subjects) - i)), tries=tries)
            left -= len(faults)
            yield from faults


def errors_of(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == Severity.ERROR]


def recall(say: Say) -> float:
    """Percent of the seeded faults, without APART, for which `check` reports an error."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("seeded", "found", "named", "raw")}
    rules: Counter[tuple[str, str]] = Counter()
    effects: Counter[str] = Counter()
    for fault in seeded(COUNT, SEED):
        errors = errors_of(check_model(fault.model()))
        happened = {
            "seeded": True,
            "found": bool(errors),
            "named": any(fault.commands & set(error.commands) for error in errors),
            "raw": bool(errors_of(check(fault.cmdbuf))),
        }
        for key in (fault.kind, *(() if fault.kind == APART else ("all",))):
            for name, value in happened.items():
                counts[name][key] += value
        effects[fault.effect] += fault.kind != APART
        rules.update({(fault.kind, error.kind.value) for error in errors})
        if not errors and fault.kind != APART:
            say(f"missed: {fault.path.stem} {fault.section}: {fault.kind}: {fault.what}")
    for key in (*MAKERS, "all"):
        say(f"{key:20} " + "   ".join(f"{counts[name][key]:5} {name}" for name in counts))
    say("effects: " + ", ".join(f"{count} {effect}" for effect, count in effects.most_common()))
    for (kind, rule), times in sorted(rules.items(), key=lambda item: (item[0][0], -item[1])):
        say(f"{kind:20} {times:5} by the rule {rule!r}")
    return 100 * counts["found"]["all"] / counts["seeded"]["all"]


def accused(say: Say) -> float:
    """Number of correct programs for which `check` reports an error. They are the correct models of golden/data, and
    eight draws of every kernel for every chip, which tests/kernels runs in both orders."""
    found = {subject.path.stem: errors_of(check_model(load_cvimodel(subject.path))) for subject in sound_subjects()}
    say(f"{len(found)} of {len(MODELS)} models are sound")
    kernels = importlib.import_module("tests.kernels.record").MAKERS  # which mypy does not follow
    for name in sorted(set(kernels) - {"calls"}):
        for chip in CHIPS:
            for seed in range(8):
                drawn = kernels[name].draw(np.random.default_rng(seed), chip.name)
                found[f"{name} {chip.name} {seed}"] = errors_of(check(parse_cmdbuf(chip, drawn.case.raw)))
    say(f"{len(found)} sound programs in all")
    assert len(found) >= 200
    for name, errors in found.items():
        for error in errors:
            say(f"{name}: {error.kind.value}: {error.message}")
    return sum(bool(errors) for errors in found.values())


def per_command(say: Say) -> float:
    """CPU milliseconds that `check` takes for a command: the most of the 32 models."""
    return max(1000 * _seconds_a_command(path.stem, load_cvimodel(path), say) for path in MODELS)


def largest(say: Say) -> float:
    """CPU seconds that `check` takes for the largest program."""
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

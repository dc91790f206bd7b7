"""Random descriptors on npusim and on the vendor's functional model, compared byte for byte.

CVI_LIB=DIR python -m tests.differential.campaign --chip cv181x --count 20000 --seed 1
    compare, exit code 1 on a difference
CVI_LIB=DIR python -m tests.differential.campaign --chip cv181x --count 5000 --programs golden/data
    the same with commands of the real programs in a folder, changed in a few fields and moved between chips
CVI_LIB=DIR python -m tests.differential.campaign --record golden/data/differential.json
    store outcomes for machines without the model
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np

from npusim import NpusimError
from npusim.chip import CHIPS, chip_named
from tests.differential import arith_cases, conv_cases, tdma_cases
from tests.differential.mutations import draw, programs_in
from tests.differential.reasons import reason_for
from tests.support.case import Case, Outcome, initial_lmem, run_npusim
from tests.support.vendor import Vendor, run_vendor

GENERATORS: tuple[ModuleType, ...] = (conv_cases, arith_cases, tdma_cases)
ANSWERED = 5.0
"""Seconds within which the model ends, or else hangs."""
RECORDED = 120
"""Cases of each generator and chip in a record."""


def draw_cases(chip: str, seed: int, count: int, generators: tuple[ModuleType, ...] = GENERATORS) -> Iterator[Case]:
    """`count` cases for `chip`, the generators in turn."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield generators[i % len(generators)].draw(rng, chip)


class Tally:
    """What a comparison on `chip` found. The model is there three times, each with other bytes in its fresh memory."""

    def __init__(self, chip: str) -> None:
        self._models = [Vendor(chip, ANSWERED, perturb=perturb) for perturb in (0x55, 0x11, 0xEE)]
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.differences: list[str] = []

    def add(self, index: int, case: Case) -> None:
        """Runs one case on both and counts it."""
        theirs = self._models[0].run(case)
        try:
            ours: Outcome | None = run_npusim(case)
            refusal = ""
        except NpusimError as error:
            ours, refusal = None, str(error)
        if ours is None and isinstance(theirs, str):
            self.counts["refused by both"] += 1
        elif ours == theirs:
            self.counts["equal"] += 1
            self.kinds[case.kind] += 1
        else:
            self._settle(f"case {index} ({case.kind})", case, ours, refusal)

    def _settle(self, where: str, case: Case, ours: Outcome | None, refusal: str) -> None:
        """Runs a case again, on two machines whose memory was fresh and filled with other bytes."""
        for model in self._models[1:]:
            model.restart()
        first, second = (model.run(case) for model in self._models[1:])
        aborts = isinstance(first, str)
        if first != second and not (aborts and isinstance(second, str)):
            self.counts["the model's own outcome depends on memory that it never set"] += 1
        elif aborts and ours is None:
            self.counts["refused by both"] += 1
        elif first == ours:
            self.counts["equal"] += 1  # what ran before it had left something behind
        elif not aborts and ours is not None:
            self.differences.append(f"{where}: memory differs")
        elif why := reason_for(first if isinstance(first, str) else refusal, by_model=aborts):
            self.counts[f"{'the model' if aborts else 'npusim'} alone refuses: {why}"] += 1
        else:
            who = "the model refuses it alone" if aborts else "the model runs it, npusim refuses"
            self.differences.append(f"{where}: {who}: {first if aborts else refusal}")

    def close(self) -> None:
        """Ends the models."""
        for model in self._models:
            model.close()


def compare(chip: str, cases: Iterable[Case]) -> Tally:
    """Runs every case, all of them for `chip`, on both."""
    tally = Tally(chip)
    with closing(tally):
        for index, case in enumerate(cases):
            tally.add(index, case)
    return tally


def mutated(chip: str, seed: int, count: int, folder: Path) -> Iterator[Case]:
    """`count` cases made of the commands of the programs in `folder`."""
    rng, programs = np.random.default_rng(seed), programs_in(folder)
    for _ in range(count):
        yield draw(rng, chip_named(chip), programs)


def digest(case: Case, outcome: Outcome | None) -> str:
    """A short hash of what a case starts from and of what it ends with."""
    before = hashlib.blake2b(case.cmdbuf + initial_lmem(case).tobytes() + _gmem(case.gmem), digest_size=6).hexdigest()
    if outcome is None:
        return before
    return f"{before}:{hashlib.blake2b(outcome.lmem + _gmem(outcome.gmem), digest_size=6).hexdigest()}"


def _gmem(ranges: dict[int, bytes]) -> bytes:
    return b"".join(addr.to_bytes(8, "little") + data for addr, data in sorted(ranges.items()))


def record(path: Path) -> None:
    """Stores a digest of each case and of the model's outcome; cases that the model refuses are left out."""
    found: dict[str, dict[str, str]] = {}
    for chip in CHIPS:
        for generator in GENERATORS:
            cases = list(draw_cases(chip.name, 2026, RECORDED, (generator,)))
            name = f"{chip.name} {generator.__name__.rsplit('.', 1)[1]}"
            found[name] = {
                str(i): digest(c, o)
                for i, (c, o) in enumerate(zip(cases, run_vendor(cases), strict=True))
                if o is not None
            }
            print(f"{name}: {len(found[name])} of {len(cases)} cases")
    path.write_text(json.dumps(found, indent=0) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", choices=[chip.name for chip in CHIPS], default="cv181x")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", type=Path, metavar="FOLDER")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    if options.record:
        record(options.record)
        return 0
    chip, seed, count = options.chip, options.seed, options.count
    cases = mutated(chip, seed, count, options.programs) if options.programs else draw_cases(chip, seed, count)
    tally = compare(chip, cases)
    print(f"{chip}, seed {seed}, {count} cases: {len(tally.differences)} differ, or are refused by one for no reason")
    print("\n".join(tally.differences[:20]))
    print("\n".join(f"{number:6} {what}" for what, number in tally.counts.most_common()))
    print(", ".join(f"{kind} {number}" for kind, number in sorted(tally.kinds.items()) if " " not in kind))
    return 1 if tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())

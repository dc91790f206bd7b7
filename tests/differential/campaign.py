"""Random descriptors on npusim and on the vendor's functional model, compared byte for byte.

CVI_LIB=DIR python -m tests.differential.campaign --chip cv181x --count 20000 --seed 1
    compare, exit code 1 on a difference
CVI_LIB=DIR python -m tests.differential.campaign --record golden/data/differential.json
    store outcomes for machines without the model
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from npusim import NpusimError
from npusim.chip import CHIPS
from tests.differential import arith_cases, conv_cases, tdma_cases
from tests.support.case import Case, Outcome, initial_lmem, run_npusim
from tests.support.vendor import run_vendor

GENERATORS: tuple[ModuleType, ...] = (conv_cases, arith_cases, tdma_cases)
BATCH = 250
RECORDED = 120
"""Cases of each generator and chip in a record."""


def draw_cases(chip: str, seed: int, count: int, generators: tuple[ModuleType, ...] = GENERATORS) -> Iterator[Case]:
    """`count` cases for `chip`, the generators in turn."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield generators[i % len(generators)].draw(rng, chip)


def compare(chip: str, seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """(number of equal outcomes by kind, a line for each difference)."""
    equal: Counter[str] = Counter()
    differences: list[str] = []
    cases = list(draw_cases(chip, seed, count))
    for start in range(0, count, BATCH):
        batch = cases[start : start + BATCH]
        for index, (case, theirs) in enumerate(zip(batch, run_vendor(batch), strict=True), start):
            try:
                ours: Outcome | None = run_npusim(case)
            except NpusimError as error:
                ours, refusal = None, str(error)
            if ours is not None and theirs is not None:
                if ours == theirs:
                    equal[case.kind] += 1
                else:
                    differences.append(f"case {index} ({case.kind}): memory differs")
            elif ours is None and theirs is not None:
                differences.append(f"case {index} ({case.kind}): the model runs it, npusim refuses: {refusal}")
            else:
                equal["refused by both" if ours is None else "refused by the model alone"] += 1
    return equal, differences


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
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    if options.record:
        record(options.record)
        return 0
    equal, differences = compare(options.chip, options.seed, options.count)
    print(f"{options.chip}, seed {options.seed}, {options.count} cases: {len(differences)} differ")
    print("\n".join(differences[:20]))
    print(", ".join(f"{kind} {count}" for kind, count in sorted(equal.items())))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())

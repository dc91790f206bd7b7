"""Damaged and hostile files of every format that is read.

They are refused with one of the project's errors, whose message is a sentence, or opened and used; nothing else.

NPUSIM_FUZZ=100000 python -m pytest tests/test_hostile_files.py      damages so many files, with another seed each time
NPUSIM_FUZZ_KEEP=DIR                                                  keeps those on which something else happened
"""

from __future__ import annotations

import os
import resource
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from npusim import ERRORS, Model, NpusimError
from tests.support.formats import FORMATS, Format
from tests.support.hostile import damaged

DATA = Path(__file__).parents[1] / "golden" / "data" / "functional"
NUM_FILES = int(os.environ.get("NPUSIM_FUZZ", "600"))
MOST_MIB = 1024


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_refused_in_a_sentence_or_opens(kind: Format, tmp_path: Path) -> None:
    seed = 2026 if "NPUSIM_FUZZ" not in os.environ else int.from_bytes(os.urandom(4), "little")
    rng, good, place = np.random.default_rng(seed), tmp_path / "good", tmp_path / "place"
    good.mkdir()
    kind.write(good)
    kind.open(good)
    shutil.copytree(good, place)
    originals = {name: (good / name).read_bytes() for name in kind.victims}
    refused, slowest = 0, 0.0
    for index in range(NUM_FILES // len(FORMATS)):
        victim = list(originals)[index % len(originals)]
        (place / victim).write_bytes(damaged(rng, originals[victim], kind.victims[victim]))
        begun = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of floats that a damaged weight has made large
                kind.open(place)
        except ERRORS as error:
            refused += 1
            assert str(error), (seed, index)
        except Exception as error:
            keep = Path(os.environ.get("NPUSIM_FUZZ_KEEP", tmp_path)) / f"{kind.name.replace(' ', '-')}-{seed}-{index}"
            shutil.copytree(place, keep, dirs_exist_ok=True)
            raise AssertionError(f"{keep}, {victim}: {type(error).__name__}: {error}") from error
        slowest = max(slowest, time.process_time() - begun)
        (place / victim).write_bytes(originals[victim])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{kind.name}: seed {seed}, {index + 1} files, {refused} refused, slowest {slowest:.2f} s, peak {peak} MiB")
    assert refused > 0
    if "NPUSIM_FUZZ" in os.environ:
        assert peak < MOST_MIB


@pytest.mark.parametrize("victim", ("mlp_cv181x_int8", "mlp_cv183x_bf16"))
def test_a_truncated_file_is_refused_at_every_length(victim: str, tmp_path: Path) -> None:
    data, path = (DATA / f"{victim}.cvimodel").read_bytes(), tmp_path / "short.cvimodel"
    for length in [*range(0, 64), *range(64, len(data), len(data) // 50)]:
        path.write_bytes(data[:length])
        with pytest.raises(NpusimError):
            Model(path)

"""Damaged and hostile .cvimodel files.

They are refused with an NpusimError, or loaded and run; nothing else.

NPUSIM_FUZZ=100000 python -m pytest tests/test_hostile_files.py      mutates so many files"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from golden import read_archive
from npusim import Model, NpusimError
from tests.support.hostile import mutate

DATA = Path(__file__).parents[1] / "golden" / "data" / "functional"
VICTIMS = ("mlp_cv181x_int8", "mlp_cv183x_bf16", "conv_cv180x_int8", "mix_cv182x_bf16")
NUM_FILES = int(os.environ.get("NPUSIM_FUZZ", "400"))


@pytest.mark.filterwarnings("ignore::npusim.errors.Md5Warning")
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_mutated_file_is_refused_in_a_sentence_or_runs(victim: str, tmp_path: Path) -> None:
    original, inputs = (DATA / f"{victim}.cvimodel").read_bytes(), read_archive(DATA / f"{victim.split('_')[0]}.in.npz")
    seed = 2026 if "NPUSIM_FUZZ" not in os.environ else int.from_bytes(os.urandom(4), "little")
    rng, path = np.random.default_rng(seed), tmp_path / "mutant.cvimodel"
    refused = 0
    for index in range(NUM_FILES // len(VICTIMS)):
        path.write_bytes(mutate(rng, original))
        try:
            Model(path).forward(inputs)
        except NpusimError as error:
            refused += 1
            assert str(error) and "\n" not in str(error)
        except Exception as error:
            (Path(os.environ.get("NPUSIM_FUZZ_KEEP", tmp_path)) / f"{victim}-{seed}-{index}.cvimodel").write_bytes(
                path.read_bytes()
            )
            raise AssertionError(f"seed {seed}, file {index}: {type(error).__name__}: {error}") from error
    assert 0 < refused < NUM_FILES


@pytest.mark.parametrize("victim", VICTIMS[:2])
def test_a_truncated_file_is_refused_at_every_length(victim: str, tmp_path: Path) -> None:
    data, path = (DATA / f"{victim}.cvimodel").read_bytes(), tmp_path / "short.cvimodel"
    for length in [*range(0, 64), *range(64, len(data), len(data) // 50)]:
        path.write_bytes(data[:length])
        with pytest.raises(NpusimError):
            Model(path)

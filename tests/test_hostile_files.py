"""Damaged and hostile .cvimodel files: refused with an NpusimError, or loaded and run; nothing else, and never for
long.

NPUSIM_FUZZ=100000 python -m pytest tests/test_hostile_files.py      mutates so many files
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from golden import read_archive
from npusim import Model, NpusimError

DATA = Path(__file__).parents[1] / "golden" / "data" / "functional"
VICTIMS = ("mlp_cv181x_int8", "mlp_cv183x_bf16", "conv_cv180x_int8", "mix_cv182x_bf16")
NUM_FILES = int(os.environ.get("NPUSIM_FUZZ", "400"))
HEADER_BYTES, MD5 = 48, slice(14, 30)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(rng: np.random.Generator, original: bytes) -> bytes:
    """A few bit flips, extreme words, moved or lost bytes; mostly with the md5 made good again, so that what lies
    behind it is reached."""
    data = bytearray(original)
    description = HEADER_BYTES + int.from_bytes(data[8:12], "little")
    for _ in range(int(rng.integers(1, 5))):
        where = int(rng.integers(0, min(description, len(data)) if rng.random() < 0.6 else len(data)))
        kind = rng.integers(5)
        if kind == 0:
            data[where] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[where : where + 4] = int(rng.choice(EXTREMES)).to_bytes(4, "little")
        elif kind == 2:
            source = int(rng.integers(0, len(data)))
            data[where : where + 16] = data[source : source + 16]
        elif kind == 3 and rng.random() < 0.3:
            del data[int(rng.integers(30, len(data))) :]
        else:
            data[where] = int(rng.integers(256))
        if len(data) <= HEADER_BYTES:
            break
    if rng.random() < 0.9:
        data[MD5] = hashlib.md5(data[HEADER_BYTES:], usedforsecurity=False).digest()
    return bytes(data)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_mutated_file_is_refused_in_a_sentence_or_runs(victim: str, tmp_path: Path) -> None:
    original, inputs = (DATA / f"{victim}.cvimodel").read_bytes(), read_archive(DATA / f"{victim.split('_')[0]}.in.npz")
    seed = 2026 if "NPUSIM_FUZZ" not in os.environ else int.from_bytes(os.urandom(4), "little")
    rng, path = np.random.default_rng(seed), tmp_path / "mutant.cvimodel"
    refused = 0
    for index in range(NUM_FILES // len(VICTIMS)):
        path.write_bytes(mutate(rng, original))
        started = time.perf_counter()
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
        assert time.perf_counter() - started < 20, f"seed {seed}, file {index}"
    assert 0 < refused < NUM_FILES


@pytest.mark.parametrize("victim", VICTIMS[:2])
def test_a_truncated_file_is_refused_at_every_length(victim: str, tmp_path: Path) -> None:
    data, path = (DATA / f"{victim}.cvimodel").read_bytes(), tmp_path / "short.cvimodel"
    for length in [*range(0, 64), *range(64, len(data), len(data) // 50)]:
        path.write_bytes(data[:length])
        with pytest.raises(NpusimError):
            Model(path)

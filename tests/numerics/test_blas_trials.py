"""Outcomes of trials outlive the process; damaged, foreign and other machines' files are as if there were none."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from npusim.numerics.blas import blas_build
from npusim.numerics.blas_trials import Trials
from npusim.numerics.user_cache import MOST_BYTES, keep, read_kept

ROOT = Path(__file__).parents[2]
SUM = """
import numpy as np
from npusim.numerics import accumulate
tried = []
real = accumulate._tried
accumulate._tried = lambda *shape: tried.append(shape) or real(*shape)
ones = np.ones((16, 40), np.float32)
accumulate.dot_in_order(ones, ones.T, normal=True)
print(len(tried))
"""


def not_tried() -> bool:
    pytest.fail("it was tried again")


def kept_one(path: Path) -> None:
    first = Trials(path, "this machine")
    assert first.outcome("8 32 64", lambda: True)
    first.save()


@pytest.mark.skipif(not blas_build(), reason="NumPy has another BLAS than OpenBLAS here")
def test_a_second_process_does_not_try_what_the_first_one_tried(tmp_path: Path) -> None:
    environment = os.environ | {"NPUSIM_CACHE": str(tmp_path / "cache")}
    run = [sys.executable, "-c", SUM]
    found = [
        int(subprocess.run(run, env=environment, cwd=ROOT, check=True, capture_output=True).stdout) for _ in range(2)
    ]
    assert found == [1, 0]
    (file,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700 and stat.S_IMODE(file.stat().st_mode) == 0o600


def test_outcomes_of_processes_that_end_one_after_another_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    both = [Trials(path, "this machine") for _ in range(2)]
    for number, trials in enumerate(both):
        assert trials.outcome(str(number), lambda: True)
    for trials in both:
        trials.save()
    later = Trials(path, "this machine")
    assert later.outcome("0", not_tried) and later.outcome("1", not_tried)


def test_outcomes_of_another_machine_are_not_believed(tmp_path: Path) -> None:
    kept_one(tmp_path / "kept")
    assert not Trials(tmp_path / "kept", "another machine").outcome("8 32 64", lambda: False)


@pytest.mark.parametrize("at", [0, 63, 64, 65, 80, -1])
def test_a_damaged_file_is_not_believed(tmp_path: Path, at: int) -> None:
    path = tmp_path / "kept"
    kept_one(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 1
    for content in (bytes(damaged), whole[:at], b"", b"\n", b"\0" * (MOST_BYTES + 1)):
        path.write_bytes(content)
        assert not Trials(path, "this machine").outcome("8 32 64", lambda: False)


@pytest.mark.parametrize(
    "content", [[], {}, {"of": "this machine", "outcomes": {"8 32 64": 1}}, {"of": "this machine", "outcomes": [1]}]
)
def test_what_is_whole_but_means_something_else_is_not_believed(tmp_path: Path, content: object) -> None:
    path = tmp_path / "kept"
    keep(path, json.dumps(content).encode())
    assert read_kept(path) is not None
    assert not Trials(path, "this machine").outcome("8 32 64", lambda: False)


@pytest.mark.parametrize("writable", ["kept", "."])
def test_what_others_could_write_is_neither_read_nor_written(tmp_path: Path, writable: str) -> None:
    path = tmp_path / "kept"
    kept_one(path)
    (tmp_path / writable).chmod(0o777)
    assert read_kept(path) is None
    if writable == ".":
        before = path.read_bytes()
        keep(path, b"new")
        assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_trials(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept_one(tmp_path / "file" / "kept")
    assert not Trials(tmp_path / "file" / "kept", "this machine").outcome("8 32 64", lambda: False)

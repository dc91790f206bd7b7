"""Descriptors with random bits changed: `check` may report anything, but raises no exception."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npusim.check import Area, Finding, check
from npusim.loader.cvimodel import load_cvimodel
from npusim.program.model import section_cmdbufs

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
AREAS = tuple(Area(f"memory {reg}", reg, 0, 1 << 20, is_writable=reg != 1) for reg in range(8))


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["conv_cv180x_int8", "mix_cv183x_bf16", "step_cv182x_int8"])
def test_any_bits_give_findings_with_a_line_for_each_command(stem: str) -> None:
    file, rng = load_cvimodel(DATA / f"{stem}.cvimodel"), np.random.default_rng(11)
    sections = [section.name for section in file.sections if section.kind.name == "CMDBUF"]
    for i in range(12):
        (cmdbuf,) = section_cmdbufs(file, sections[i % len(sections)])
        changed = {name: getattr(cmdbuf, name).copy() for name in ("tiu", "tdma")}
        for _ in range(rng.integers(1, 6)):
            rows = changed[("tiu", "tdma")[rng.integers(2)]]
            rows[rng.integers(len(rows)), rng.integers(rows.shape[1])] ^= 1 << rng.integers(8)
        findings = check(replace(cmdbuf, **changed), AREAS if i % 2 else ())
        assert all(isinstance(f, Finding) and len(f.commands) == len(f.disassembly) for f in findings)

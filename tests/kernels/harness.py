"""Runs kernel programs on npusim and on the vendor's functional model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.kernels import Program
from tests.differential.tdma_sketch import WINDOWS
from tests.support.case import Case, Outcome, run_npusim

BASE = WINDOWS
"""Where GMEM starts after the area of the vendor's model, by chip."""


@dataclass(frozen=True)
class ProgramCase(Case):
    """A case whose command buffer is a finished program's."""

    raw: bytes = b""

    @property
    def cmdbuf(self) -> bytes:
        return self.raw


def case_of(kind: str, program: Program, gmem: dict[int, NDArray | bytes]) -> ProgramCase:
    """`program` on random LMEM and on `gmem`, whose ranges are all read back."""
    memory = {
        addr: data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes() for addr, data in gmem.items()
    }
    return ProgramCase(program.chip.name, kind, [], 7, memory, bf16_lmem=True, raw=program.cmdbuf)


def run(case: ProgramCase) -> Outcome:
    return run_npusim(case)


def bf16_numbers(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> NDArray[np.uint16]:
    """Normal numbers as bf16 patterns, cut rather than rounded."""
    return ((rng.standard_normal(shape).astype(np.float32) * np.float32(scale)).view(np.uint32) >> 16).astype(np.uint16)


@dataclass(frozen=True)
class Checked:
    """A case and what the twin's arithmetic says must lie in GMEM behind it."""

    case: ProgramCase
    wanted: dict[int, bytes]

    def assert_equals_twin(self, outcome: Outcome) -> None:
        for addr, data in self.wanted.items():
            start = max(where for where in outcome.gmem if where <= addr)
            offset = addr - start
            assert outcome.gmem[start][offset : offset + len(data)] == data, (
                f"{self.case.kind} at {addr:#x} differs from the twin"
            )

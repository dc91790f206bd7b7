"""Footprints against the executor: what lies outside the declared reads does not matter, what lies outside the declared
writes stays."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from npusim import Machine, NpusimError
from npusim.insn import INSTRUCTIONS
from npusim.insn.operand import Access
from npusim.mem.region import LMEM, Region, region
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.decode import decode_cmdbuf
from tests.differential import arith_cases, conv_cases, tdma_cases
from tests.differential.tdma_sketch import WINDOW_BYTES, WINDOWS
from tests.support.case import Case, initial_lmem
from tests.support.chips import EACH_CHIP

GENERATORS = {"arith": arith_cases, "conv": conv_cases, "tdma": tdma_cases}


@dataclass
class Memory:
    """LMEM, flat, and the GMEM window of a case."""

    lmem: NDArray[np.uint8]
    window: NDArray[np.uint8]

    def of(self, case: Case, place: Region) -> NDArray[np.uint8]:
        """The bytes of a region, as a view."""
        if place.memory == LMEM:
            return place.view(self.lmem)
        return place.view(self.window, WINDOWS[case.chip] - case.array_base[place.memory])

    def holds(self, case: Case, place: Region) -> bool:
        """Whether all of a region lies in here."""
        return (
            place.memory == LMEM or place.end <= WINDOWS[case.chip] - case.array_base[place.memory] + self.window.size
        )

    def marked(self, case: Case, operands: tuple[Access, ...]) -> Memory:
        """Ones where an operand lies, and in the whole window where one leaves it."""
        marks = Memory(np.zeros_like(self.lmem), np.zeros_like(self.window))
        for place in (r for operand in operands for r in operand.regions):
            if self.holds(case, place):
                marks.of(case, place)[...] = 1
            else:
                marks.window[:] = 1
        return marks


def run(case: Case, memory: Memory) -> Memory:
    machine = Machine(case.chip)
    machine.lmem.reshape(-1)[:] = memory.lmem
    machine.gmem.write(WINDOWS[case.chip], memory.window)
    machine.run_cmdbuf(case.cmdbuf, case.array_base)
    return Memory(
        machine.lmem.reshape(-1).copy(),
        np.frombuffer(machine.gmem.read(WINDOWS[case.chip], memory.window.size), np.uint8),
    )


def check_case(case: Case) -> type | None:
    """Runs `case` on its memory and on one that differs in every byte outside the declared reads. The class of what
    ran, if it is legal."""
    window = np.frombuffer(case.gmem.get(WINDOWS[case.chip], bytes(WINDOW_BYTES)), np.uint8).copy()
    before = Memory(initial_lmem(case).reshape(-1), window)
    try:
        after = run(case, before)
    except NpusimError:
        return None
    (instruction,) = decode_cmdbuf(parse_cmdbuf(Machine(case.chip).chip, case.cmdbuf))
    reads, writes = instruction.footprint()
    read, written = before.marked(case, reads), before.marked(case, writes)
    other = Memory(np.where(read.lmem, before.lmem, ~before.lmem), np.where(read.window, before.window, ~before.window))
    other_after = run(case, other)
    for name in ("lmem", "window"):
        mark, start, end = (getattr(m, name) for m in (written, before, after))
        assert (start == end)[mark == 0].all(), f"{case.kind}: {name} changed outside the declared writes"
        assert (getattr(other, name) == getattr(other_after, name))[mark == 0].all(), (
            f"{case.kind}: {name} changed outside"
        )
        places = [(access, place) for access in writes for place in access.regions]
        if not any(access.operand.at_most or not before.holds(case, place) for access, place in places):
            assert (end == getattr(other_after, name))[mark == 1].all(), (
                f"{case.kind}: {name} depends on more than the declared reads"
            )
    return type(instruction)


@pytest.mark.parametrize("chip", EACH_CHIP)
@pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)
def test_a_run_depends_on_the_declared_reads_and_changes_the_declared_writes_alone(chip, generator: ModuleType) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2026)
    ran = [check_case(generator.draw(rng, chip.name)) for _ in range(120)]
    assert len([kind for kind in ran if kind]) > 40


@pytest.mark.slow
def test_every_kind_of_instruction_was_tried() -> None:
    rng = np.random.default_rng(7)
    missing = set(INSTRUCTIONS)
    for i in range(4000):
        if not missing:
            break
        generator = (arith_cases, conv_cases, tdma_cases)[i % 3]
        kind = check_case(generator.draw(rng, "cv183x" if i % 2 else "cv180x"))
        if kind is not None:
            missing.discard(kind)
    assert not missing


boxes = st.builds(
    lambda start, axes, run: region(LMEM, start, axes, run),
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30)), max_size=3),
    st.integers(1, 8),
)


def bytes_of(place: Region) -> set[int]:
    return {start + i for start in place.starts().tolist() for i in range(place.run)}


@given(
    start=st.integers(0, 9),
    axes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 20)), max_size=4),
    run=st.integers(1, 5),
)
def test_normal_form_keeps_the_bytes(start: int, axes: list[tuple[int, int]], run: int) -> None:
    wanted = {start}
    for extent, stride in axes:
        wanted = {at + i * stride for at in wanted for i in range(extent)}
    place = region(LMEM, start, axes, run)
    assert bytes_of(place) == {at + i for at in wanted for i in range(run)}
    assert place.end == max(bytes_of(place)) + 1


@given(a=boxes, b=boxes)
def test_overlap_is_exact(a: Region, b: Region) -> None:
    assert a.overlaps(b) == b.overlaps(a) == bool(bytes_of(a) & bytes_of(b))

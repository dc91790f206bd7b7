"""The two-engine schedule against a twin that moves time forward, command by command."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.chip import CV183X
from npusim.errors import Deadlock
from npusim.isa.opcodes import PerEngine, TransDir
from npusim.timing import concatenate
from npusim.timing.schedule import find_blocks, run
from tests.support.commands import conv, transfer, with_fields, workload_of


def twin(
    needs: tuple[list[int], list[int]], durations: tuple[list[int], list[int]], sync: tuple[int, int], gap: int
) -> list[list[int]]:
    """Starts of both engines' commands, found one at a time; raises RuntimeError where neither engine can go on."""
    starts: list[list[int]] = [[], []]
    ends: list[list[int]] = [[], []]
    while any(len(starts[e]) < len(needs[e]) for e in (0, 1)):
        progress = False
        for e in (0, 1):
            place = len(starts[e])
            if place == len(needs[e]) or needs[e][place] > len(ends[1 - e]):
                continue
            start = ends[e][-1] + gap if place else 0
            if needs[e][place]:
                start = max(start, ends[1 - e][needs[e][place] - 1] + sync[e])
            starts[e].append(start)
            ends[e].append(start + durations[e][place])
            progress = True
        if not progress:
            raise RuntimeError
    return starts


engine_needs = st.lists(st.integers(0, 12), max_size=12)


@given(engine_needs, engine_needs, st.data(), st.tuples(st.integers(0, 5), st.integers(0, 5)), st.integers(0, 3))
def test_schedule_is_that_of_a_command_by_command_twin(tiu, tdma, data, sync, gap) -> None:  # type: ignore[no-untyped-def]
    needs = (tiu, tdma)
    durations = tuple(data.draw(st.lists(st.integers(0, 50), min_size=len(n), max_size=len(n))) for n in needs)
    arrays = PerEngine(*(np.array(n, np.int64) for n in needs))
    try:
        expected = twin(needs, durations, sync, gap)
    except RuntimeError:
        with pytest.raises(Deadlock):
            find_blocks(arrays)
        return
    found = run(find_blocks(arrays), PerEngine(*(np.array(d, np.int64) for d in durations)), PerEngine(*sync), gap)
    assert [starts.tolist() for starts in found] == expected


def test_an_id_that_no_command_has_is_a_deadlock() -> None:
    workload = workload_of(
        [
            transfer(CV183X, TransDir.G2L, (1, 32, 4, 4)),
            with_fields(conv(CV183X, 32, 32, 1, 4, 4), cmd_id_en=1, cmd_id_gdma=9),
        ]
    )
    with pytest.raises(Deadlock, match="TIU command 0"):
        _ = workload.blocks


def test_a_tiu_command_without_its_enable_bit_does_not_wait() -> None:
    work = with_fields(conv(CV183X, 32, 32, 1, 4, 4), cmd_id_en=0, cmd_id_gdma=1)
    assert workload_of([transfer(CV183X, TransDir.G2L, (1, 32, 4, 4)), work]).needs[0].tolist() == [0]


def test_ids_count_anew_behind_the_last_one() -> None:
    first = [
        transfer(CV183X, TransDir.G2L, (1, 32, 4, 4), cmd_id=0xFFFF),
        with_fields(conv(CV183X, 32, 32, 1, 4, 4), cmd_id_en=1, cmd_id_gdma=1),
    ]
    second = [
        transfer(CV183X, TransDir.G2L, (1, 32, 4, 4), cmd_id=1),
        with_fields(conv(CV183X, 32, 32, 1, 4, 4), cmd_id_en=1, cmd_id_gdma=1),
    ]
    needs = workload_of([*first, *second]).needs
    assert needs[0].tolist() == [2, 2]


def test_programs_in_turn_wait_for_both_engines() -> None:
    part = workload_of([transfer(CV183X, TransDir.G2L, (1, 32, 4, 4)), conv(CV183X, 32, 32, 1, 4, 4)])
    both = concatenate([part, part])
    assert both.needs[0].tolist() == [0, 1] and both.needs[1].tolist() == [0, 1]
    assert both.routine[0].tolist() == [0, 1]

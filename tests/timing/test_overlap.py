"""Banks and command pre-execution: what runs at the same time as what."""

from __future__ import annotations

import numpy as np

from npusim.board import default_board
from npusim.chip import CV181X, CV183X
from npusim.isa.opcodes import TransDir
from npusim.timing import TDMA, TIU, Timeline, time_workload
from npusim.timing.banks import bank_masks
from tests.support.case import Command
from tests.support.commands import conv, transfer, with_fields, workload_of

SHAPE = (1, 64, 8, 16)


def test_a_span_touches_the_banks_that_it_reaches_into() -> None:
    spans = np.array([[[0, 4096]], [[0, 4097]], [[4095, 8193]], [[0, 0]], [[28672, 32768]]])
    assert bank_masks(spans, CV181X).tolist() == [0b1, 0b11, 0b111, 0, 0b10000000]


def _beside(load_addr: int) -> Timeline:
    """A long convolution in banks 0 and 1, and a load to `load_addr` that nothing waits for."""
    work = conv(CV183X, 32, 32, 3, 8, 16)
    return time_workload(
        workload_of([work, transfer(CV183X, TransDir.G2L, SHAPE, dst_base_addr_low=load_addr)]), default_board(CV183X)
    )


def test_a_transfer_into_a_bank_that_the_tiu_works_on_is_slower() -> None:
    shared, apart = (_beside(addr) for addr in (0, 7 * 4096))
    assert shared.busy_ps(TDMA) > apart.busy_ps(TDMA)
    assert shared.busy_ps(TIU) == apart.busy_ps(TIU)


def test_a_transfer_that_the_tiu_waits_for_does_not_meet_it() -> None:
    load = transfer(CV183X, TransDir.G2L, SHAPE)
    waiting = with_fields(conv(CV183X, 32, 32, 3, 8, 16), cmd_id_en=1, cmd_id_gdma=1)
    assert not workload_of([load, waiting]).conflicts(CV183X).any()


def _pre_executed(load: bool, work: bool) -> Timeline:
    command = conv(CV181X, 64, 64, 1, 8, 16, cmd_id_en=1, cmd_id_gdma=1, cmd_pre_exe=int(work))
    commands: list[Command] = [transfer(CV181X, TransDir.G2L, SHAPE, intra_cmd_paral=int(load)), command]
    return time_workload(workload_of(commands, CV181X), default_board(CV181X))


def test_pre_execution_needs_both_engines_to_ask_for_it() -> None:
    plain = _pre_executed(False, False)
    assert plain.ps == _pre_executed(True, False).ps == _pre_executed(False, True).ps
    assert _pre_executed(True, True).ps < plain.ps


def test_a_pre_executed_command_starts_behind_the_first_channel_and_ends_behind_the_last() -> None:
    early = _pre_executed(True, True)
    assert early.start_ps[TDMA][0] < early.start_ps[TIU][0] < early.end_ps[TDMA][0] < early.end_ps[TIU][0]
    assert early.overlap > 0


def test_a_command_is_not_pre_executed_where_only_its_ids_start_over() -> None:
    load = transfer(CV181X, TransDir.G2L, SHAPE, cmd_id=5, intra_cmd_paral=1)
    behind = conv(CV181X, 64, 64, 1, 8, 16, cmd_id_en=1, cmd_pre_exe=1)
    commands = [load, conv(CV181X, 64, 64, 1, 8, 16, cmd_id_tpu=5), transfer(CV181X, TransDir.G2L, SHAPE), behind]
    timeline = time_workload(workload_of(commands, CV181X), default_board(CV181X))
    assert timeline.start_ps[TIU][1] > timeline.end_ps[TDMA][0]

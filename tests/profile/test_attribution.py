"""Whose time it is, and how hard memory is worked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npusim.board import default_board
from npusim.profile.attribution import instruction_shares, layer_runs, layer_shares, pieces_of
from npusim.profile.pressure import dram_gbps_over_time, lmem_live_bytes
from npusim.timing import TDMA, TIU, Timeline, time_workload, workload_of_model

MODELS = Path(__file__).parents[2] / "golden" / "data" / "functional"
NAMES = ("mlp_cv180x_bf16", "conv_cv181x_int8", "mix_cv182x_int8", "step_cv183x_bf16")


@pytest.fixture(params=NAMES, scope="module")
def timeline(request: pytest.FixtureRequest) -> Timeline:
    workload = workload_of_model(MODELS / f"{request.param}.cvimodel")
    return time_workload(workload, default_board(workload.chip))


def union_ps(timeline: Timeline) -> int:
    """Time in which any engine works, by a sweep."""
    spans = sorted(
        (s, e)
        for engine in (TIU, TDMA)
        for s, e in zip(timeline.start_ps[engine], timeline.end_ps[engine], strict=True)
    )
    total, reached = 0, -1
    for start, end in spans:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return int(total)


def test_pieces_do_not_overlap_and_are_all_the_time_in_which_an_engine_works(timeline: Timeline) -> None:
    pieces = pieces_of(timeline)
    assert (pieces.ps > 0).all()
    assert (pieces.start_ps[1:] >= pieces.end_ps[:-1]).all()
    assert pieces.ps.sum() == union_ps(timeline)


def test_shares_of_layers_and_of_instructions_add_up_to_the_same_time(timeline: Timeline) -> None:
    for shares in (layer_shares(timeline), instruction_shares(timeline)):
        assert sum(s.ps for s in shares) == union_ps(timeline)
        assert sum(s.num_commands for s in shares) == timeline.workload.num_commands
        assert sum(s.tiu_ps for s in shares) == timeline.busy_ps(TIU)
        assert sum(s.tdma_ps for s in shares) == timeline.busy_ps(TDMA)
        assert sum(s.dram_bytes for s in shares) == timeline.dram_read_bytes + timeline.dram_write_bytes


def test_runs_of_layers_do_not_overlap_and_change_the_layer(timeline: Timeline) -> None:
    start, end, layer = layer_runs(timeline)
    assert (start[1:] >= end[:-1]).all() and (np.diff(layer) != 0).all()


def test_bandwidth_over_time_adds_up_to_the_bytes_and_stays_below_the_peak(timeline: Timeline) -> None:
    edges, gbps = dram_gbps_over_time(timeline, 97)
    moved = (gbps * np.diff(edges) / 1000).sum()
    assert moved == pytest.approx(timeline.dram_read_bytes + timeline.dram_write_bytes)
    assert gbps.max() <= timeline.board.peak_gbps


def test_lmem_in_use_ends_at_nothing_and_never_exceeds_what_there_is(timeline: Timeline) -> None:
    times, live = lmem_live_bytes(timeline)
    assert (np.diff(times) > 0).all() and live[-1] == 0
    assert 0 < live.max() <= timeline.workload.chip.lmem_total_bytes

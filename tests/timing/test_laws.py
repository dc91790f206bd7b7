"""Laws that hold for every program.

More of a resource is never slower, and what moves does not depend on how fast it moves."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim.board import Board, default_board
from npusim.chip import CHIPS
from npusim.timing import TDMA, TIU, Costs, Timeline, Workload, constants, time_workload, workload_of_model

MODELS = Path(__file__).parents[2] / "golden" / "data" / "functional"
PROGRAMS = [(net, chip, kind) for net in ("conv", "mix", "step", "mlp") for chip in CHIPS for kind in ("int8", "bf16")]


@cache
def load(net: str, chip_name: str, kind: str) -> Workload:
    return workload_of_model(MODELS / f"{net}_{chip_name}_{kind}.cvimodel")


programs = st.sampled_from(PROGRAMS).map(lambda p: load(p[0], p[1].name, p[2]))
mhz, gbps = st.floats(50, 2000), st.floats(0.1, 50)


def timeline(workload: Workload, board: Board | None = None, costs: Costs | None = None) -> Timeline:
    return time_workload(workload, board or default_board(workload.chip), costs)


@given(programs, mhz, st.lists(gbps, min_size=2, max_size=2).map(sorted))
def test_more_bandwidth_is_never_slower(workload: Workload, clock: float, bandwidths: list[float]) -> None:
    slow, fast = (
        timeline(workload, default_board(workload.chip).variant(clock_mhz=clock, dram_gbps=b)) for b in bandwidths
    )
    assert fast.ps <= slow.ps


@given(programs, gbps, st.lists(mhz, min_size=2, max_size=2).map(sorted))
def test_a_faster_clock_is_never_slower(workload: Workload, bandwidth: float, clocks: list[float]) -> None:
    slow, fast = (
        timeline(workload, default_board(workload.chip).variant(clock_mhz=c, dram_gbps=bandwidth)) for c in clocks
    )
    assert fast.ps <= slow.ps + 1  # waits are rounded to picoseconds


@given(programs, st.lists(st.sampled_from((1, 2, 4, 8, 16, 32)), min_size=2, max_size=2).map(sorted))
def test_more_banks_are_never_slower(workload: Workload, banks: list[int]) -> None:
    few, many = (timeline(workload, default_board(workload.chip).variant(banks=b)) for b in banks)
    assert many.ps <= few.ps


@given(programs, st.sampled_from([f.name for f in fields(Costs)]), st.floats(0.1, 1))
def test_a_cheaper_command_is_never_slower(workload: Workload, name: str, factor: float) -> None:
    costs = Costs()
    value = getattr(costs, name)
    cheaper = replace(costs, **{name: value / factor if name == "dram_efficiency" else value * factor})
    assert timeline(workload, costs=cheaper).ps <= timeline(workload).ps


@given(programs, mhz, gbps)
def test_bytes_do_not_depend_on_clock_or_bandwidth(workload: Workload, clock: float, bandwidth: float) -> None:
    usual, other = (
        timeline(workload),
        timeline(workload, default_board(workload.chip).variant(clock_mhz=clock, dram_gbps=bandwidth)),
    )
    assert (usual.dram_read_bytes, usual.dram_write_bytes) == (other.dram_read_bytes, other.dram_write_bytes)


@given(programs, mhz, gbps)
def test_no_engine_is_busier_than_the_span_and_none_does_two_things_at_once(
    workload: Workload, clock: float, bandwidth: float
) -> None:
    found = timeline(workload, default_board(workload.chip).variant(clock_mhz=clock, dram_gbps=bandwidth))
    assert (
        found.overlap_ps
        <= min(found.busy_ps(TIU), found.busy_ps(TDMA))
        <= max(found.busy_ps(TIU), found.busy_ps(TDMA))
        <= found.ps
    )
    assert found.busy_ps(TIU) + found.busy_ps(TDMA) - found.overlap_ps <= found.ps
    for engine in (TIU, TDMA):
        assert (found.start_ps[engine][1:] > found.end_ps[engine][:-1]).all()


@given(programs, mhz, gbps)
def test_every_wait_is_kept(workload: Workload, clock: float, bandwidth: float) -> None:
    found = timeline(workload, default_board(workload.chip).variant(clock_mhz=clock, dram_gbps=bandwidth))
    for engine in (TIU, TDMA):
        needs = workload.needs[engine]
        waiting = needs > 0
        assert (found.start_ps[engine][waiting] > found.end_ps[1 - engine][needs[waiting] - 1]).all()


@settings(max_examples=20)
@given(programs)
def test_a_clock_that_scales_with_bandwidth_keeps_the_cycles(workload: Workload) -> None:
    board = default_board(workload.chip)
    double = board.variant(clock_mhz=board.tpu_mhz * 2, dram_gbps=board.peak_gbps * 2)
    assert timeline(workload, double).cycles == pytest.approx(timeline(workload, board).cycles, rel=1e-4)


def test_every_constant_has_a_kind_and_a_source() -> None:
    rows = constants()
    assert len(rows) == len(fields(Costs))
    assert all(kind in ("exact", "modelled", "calibrated") and source and how for _, _, _, kind, source, how in rows)

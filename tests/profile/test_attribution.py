"""Attribution of time to commands and tensors, and how busy memory is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npusim.insn import TDMA_OPERANDS, TIU_OPERANDS
from npusim.profile import Profile, profile_program
from npusim.profile.pressure import GRANULES, dram_curve
from npusim.timing import TDMA, TIU, Timeline

MODELS = Path(__file__).parents[2] / "golden" / "data" / "functional"
NAMES = ("mlp_cv180x_bf16", "conv_cv181x_int8", "mix_cv182x_int8", "step_cv183x_bf16")


@pytest.fixture(params=NAMES, scope="module")
def result(request: pytest.FixtureRequest) -> Profile:
    return profile_program(MODELS / f"{request.param}.cvimodel")


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


def test_pieces_do_not_overlap_and_are_all_the_time_in_which_an_engine_works(result: Profile) -> None:
    pieces = result.pieces
    assert (pieces.ps > 0).all()
    assert (pieces.start_ps[1:] >= pieces.end_ps[:-1]).all()
    assert pieces.ps.sum() == union_ps(result.timeline)


def test_shares_of_layers_and_of_instructions_add_up_to_the_same_time(result: Profile) -> None:
    timeline = result.timeline
    for shares in (result.layers, result.instructions):
        assert sum(s.ps for s in shares) == union_ps(timeline)
        assert sum(s.num_commands for s in shares) == timeline.workload.num_commands
        assert sum(s.tiu_ps for s in shares) == timeline.busy_ps(TIU)
        assert sum(s.tdma_ps for s in shares) == timeline.busy_ps(TDMA)
        assert sum(s.dram_bytes for s in shares) == timeline.dram_read_bytes + timeline.dram_write_bytes
        assert sum(s.share for s in shares) == pytest.approx(1 - result.idle)
        assert min(s.start_ps for s in shares) == 0 and max(s.end_ps for s in shares) == timeline.ps


def test_runs_of_layers_do_not_overlap_and_change_the_layer(result: Profile) -> None:
    runs = result.layer_runs
    assert (runs.start_ps[1:] >= runs.end_ps[:-1]).all() and (np.diff(runs.layer) != 0).all()


def test_bytes_by_region_of_gmem_are_all_the_bytes_of_dram(result: Profile) -> None:
    assert sum(region.read_bytes or 0 for region in result.gmem) == result.timeline.dram_read_bytes
    assert sum(region.write_bytes or 0 for region in result.gmem) == result.timeline.dram_write_bytes


@pytest.mark.parametrize("bins", [None, 1, 97])
def test_bandwidth_over_time_adds_up_to_the_bytes_and_stays_below_the_peak(result: Profile, bins: int | None) -> None:
    timeline = result.timeline
    curve = dram_curve(timeline, bins)
    moved = (curve.gbps * np.diff(curve.edges_ps) / 1000).sum()
    assert moved == pytest.approx(timeline.dram_read_bytes + timeline.dram_write_bytes)
    assert curve.gbps.max() <= timeline.board.peak_gbps


def test_lmem_in_use_ends_at_nothing_and_never_exceeds_what_there_is(result: Profile) -> None:
    curve = result.lmem
    assert (np.diff(curve.times_ps) > 0).all() and curve.num_bytes[-1] == 0
    assert 0 < curve.peak_bytes <= result.timeline.workload.chip.lmem_total_bytes


def test_lmem_in_use_is_what_a_walk_over_every_granule_finds(result: Profile) -> None:
    times, num_bytes = granule_by_granule(result.timeline)
    assert result.lmem.times_ps.tolist() == times and result.lmem.num_bytes.tolist() == num_bytes


def granule_by_granule(timeline: Timeline) -> tuple[list[int], list[int]]:
    """The LMEM curve in plain Python: a granule is wanted from an access to the next read, else to the access's end."""
    use, chip = timeline.workload.lmem, timeline.workload.chip
    size = chip.lmem_bytes // GRANULES
    accesses: dict[int, list[tuple[int, bool, int]]] = {}
    for engine, spans, written in (
        (TIU, use.tiu, TIU_OPERANDS.index("res0")),
        (TDMA, use.tdma, TDMA_OPERANDS.index("dst")),
    ):
        times = zip(timeline.start_ps[engine].tolist(), timeline.end_ps[engine].tolist(), strict=True)
        for (start, end), operands in zip(times, spans.tolist(), strict=True):
            for i, (first, last) in enumerate(operands):
                for granule in range(first // size, min(-(-last // size), GRANULES)):
                    accesses.setdefault(granule, []).append((start, i == written, end))
    change: dict[int, int] = {}
    for found in accesses.values():
        found.sort(key=lambda access: access[:2])
        for (start, _, end), following in zip(found, [*found[1:], None], strict=True):
            until = end if following is None else following[0] if not following[1] else min(end, following[0])
            change[start] = change.get(start, 0) + 1
            change[max(start, until)] = change.get(max(start, until), 0) - 1
    times, num_bytes, live = [], [], 0
    for time, count in sorted(change.items()):
        live += count
        if count:
            times.append(time)
            num_bytes.append(live * size * chip.num_lanes)
    return times, num_bytes

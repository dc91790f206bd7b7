"""Timelines of vendor-compiled programs, and where they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from npusim.board import BOARDS, board_named, default_board
from npusim.chip import CHIPS
from npusim.errors import UsageError
from npusim.timing import time_workload, workload_of_model

MODELS = Path(__file__).parents[2] / "golden" / "data" / "functional"


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
@pytest.mark.parametrize("net", ["mlp", "conv", "mix", "step"])
def test_every_functional_model_gets_a_timeline(net: str, chip) -> None:  # type: ignore[no-untyped-def]
    timeline = time_workload(workload_of_model(MODELS / f"{net}_{chip.name}_int8.cvimodel"), default_board(chip))
    assert 0 <= timeline.overlap <= min(timeline.tiu_busy, timeline.tdma_busy) <= 1
    assert 0 < timeline.ms < 10
    assert timeline.lmem_peak_bytes <= chip.lmem_total_bytes


def test_boards_have_names_of_their_own_and_sources() -> None:
    assert len({board.name for board in BOARDS}) == len(BOARDS)
    assert all(board.sources and board.peak_gbps > 0 for board in BOARDS)


def test_unknown_board_is_refused_with_the_known_names() -> None:
    with pytest.raises(UsageError, match="duo256m"):
        board_named("raspberry")


def test_program_of_another_chip_is_refused() -> None:
    with pytest.raises(UsageError, match="compiled for cv181x, but Milk-V Duo"):
        time_workload(workload_of_model(MODELS / "mlp_cv181x_int8.cvimodel"), board_named("duo"))


def test_fewer_lanes_are_refused_where_channels_go_round_them() -> None:
    workload = workload_of_model(MODELS / "conv_cv181x_int8.cvimodel")
    with pytest.raises(UsageError, match="compiled for 8 lanes"):
        time_workload(workload, board_named("duos").variant(lanes=4))


def test_less_lmem_than_the_high_water_mark_is_refused_with_the_numbers() -> None:
    workload = workload_of_model(MODELS / "conv_cv181x_int8.cvimodel")
    assert 4096 < workload.lmem.high_water <= 32768
    with pytest.raises(UsageError, match=f"uses {workload.lmem.high_water} bytes of each lane's LMEM, but 4096"):
        time_workload(workload, board_named("duos").variant(lmem_bytes=4096))
    fits = board_named("duos").variant(lmem_bytes=65536)
    assert time_workload(workload, fits).ps == time_workload(workload, board_named("duos")).ps

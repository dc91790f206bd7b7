"""PMU records, their files, and the comparison of two of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from npusim.board import board_named, default_board
from npusim.errors import FileFormatError
from npusim.profile import profile_program
from npusim.profile.pmu import PmuRecords, PmuType, layer_records
from npusim.profile.pmu_csv import DES_HEADER, des_csv, is_layer_csv, layer_csv, read_layers, read_pmu
from npusim.profile.pmu_diff import compare_layers, compare_records
from npusim.program.open import open_program
from npusim.timing.timeline import TDMA, TIU, Timeline

MODELS = Path(__file__).parents[2] / "golden" / "data" / "functional"


def predicted(name: str, clock_mhz: float | None = None) -> tuple[Timeline, PmuRecords]:
    program = open_program(MODELS / f"{name}.cvimodel")
    result = profile_program(program, default_board(program.chip).variant(clock_mhz=clock_mhz))
    return result.timeline, result.records


@pytest.mark.parametrize("name", ["mix_cv181x_int8", "step_cv180x_bf16", "conv_cv183x_int8"])
def test_records_survive_their_file(name: str, tmp_path: Path) -> None:
    _, records = predicted(name)
    path = tmp_path / "x_des.csv"
    path.write_text(des_csv(records))
    again = read_pmu(path)
    for column in ("kind", "des_id", "bursts", "beats", "start", "end", "layer"):
        np.testing.assert_array_equal(getattr(again, column), getattr(records, column))
    assert again.description == records.description
    assert all((again.tdma[field] == records.tdma[field]).all() for field in again.tdma)


def test_records_say_what_the_timeline_says() -> None:
    timeline, records = predicted("conv_cv181x_int8")
    assert abs(records.ticks - timeline.cycles) <= 1
    assert abs(records.busy(PmuType.TIU) - timeline.busy_ps(TIU) / timeline.board.tick_ps) <= len(records)
    dma = (PmuType.LOAD, PmuType.STORE, PmuType.MOVE)
    assert abs(records.busy(*dma) - timeline.busy_ps(TDMA) / timeline.board.tick_ps) <= len(records)
    assert records.num_bytes[records.kind == PmuType.LOAD].sum() == timeline.dram_read_bytes
    assert (np.diff(records.end) >= 0).all()


def test_a_row_reads_as_the_runtime_writes_it() -> None:
    _, records = predicted("mix_cv181x_int8")
    header, first, *_ = des_csv(records).splitlines()
    assert header.split(", ") == list(DES_HEADER)
    assert first.startswith("1, 1, ") and ", TDMA Tensor Load, 0x0, 0x8192, " in first
    assert any(
        row.split(", ")[9] == "TIU PerChannel Convolution" and row.startswith("4, ")
        for row in des_csv(records).splitlines()
    )


def test_layers_are_runs_that_hold_every_record(tmp_path: Path) -> None:
    timeline, records = predicted("step_cv181x_int8")
    layers = layer_records(records)
    assert sum(layer.num_bytes for layer in layers) == records.num_bytes.sum()
    assert all(a.layer != b.layer for a, b in pairwise(layers))
    path = tmp_path / "x_layer.csv"
    path.write_text(layer_csv(records, timeline.board.tpu_mhz * 1e6))
    assert is_layer_csv(path)
    assert [(x.layer, x.start, x.end, x.tiu, x.num_bytes) for x in read_layers(path)] == [
        (x.layer, x.start, x.end, x.tiu, x.num_bytes) for x in layers
    ]


@pytest.mark.parametrize("before_the_end", [0, 1, 400, 5000, 1 << 31])
def test_ticks_that_go_round_at_32_bits_go_on(before_the_end: int, tmp_path: Path) -> None:
    _, records = RECORDS
    shift = (1 << 32) - before_the_end
    path = tmp_path / "x_des.csv"
    path.write_text(des_csv(replace(records, start=records.start + shift, end=records.end + shift)))
    assert read_pmu(path).ticks == records.ticks


RECORDS = predicted("mlp_cv181x_int8")


def test_a_prediction_is_within_any_tolerance_of_itself() -> None:
    _, records = RECORDS
    assert compare_records(records, records, 0.0)
    assert compare_layers(layer_records(records), layer_records(records), 0.0)


def test_half_the_clock_is_a_difference_that_names_span_and_layers() -> None:
    _, slow = predicted("step_cv181x_int8", clock_mhz=250)
    _, fast = predicted("step_cv181x_int8")
    result = compare_records(slow, fast, 0.1)
    assert not result
    assert (
        result.failures[0].name == "span"
        and result.failures[0].relative is not None
        and result.failures[0].relative < -0.1
    )
    by_name = {d.name: d for d in result.totals}
    assert by_name["bytes loaded"].relative == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "header"),
        ("a, b\n", "header"),
        (", ".join(DES_HEADER) + "\n1, 2\n", "line 2: 2 columns"),
        (", ".join(DES_HEADER) + "\n9, 1, 0, 0, 3, 1, 1, 2, 0, TIU\n", "line 2: pmutype is 9"),
        (", ".join(DES_HEADER) + "\n4, 1, 0, 0, 3, x, 1, 2, 0, TIU\n", "line 2: 'x' is not a whole number"),
        (", ".join(DES_HEADER) + "\n4, 1, 0, 0, 3, -1, 1, 2, 0, TIU\n", "line 2: '-1' is not a whole number"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "x_des.csv"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=complaint):
        read_pmu(path)


def test_boards_have_the_names_that_people_use() -> None:
    assert [board_named(name).chip.name for name in ("duo", "duo256m", "duos")] == ["cv180x", "cv181x", "cv181x"]

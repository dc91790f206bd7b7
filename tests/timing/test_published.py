"""Predictions against times that others measured (benchmarks/support/published_times.py). Bounds are what was reached,
with a little room."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.support.published_times import PUBLISHED, published
from benchmarks.support.timed_networks import Row, golden_rows
from benchmarks.support.vendor_estimate import tdma_ns, tiu_cycles
from npusim.chip import CV181X, CV183X
from npusim.isa.opcodes import TransDir
from npusim.isa.regs import tdma_rows, tiu_rows
from npusim.timing import Costs, time_workload
from tests.support.case import Command
from tests.support.commands import conv, pool, transfer

pytestmark = pytest.mark.slow


@cache
def rows() -> dict[tuple[str, str], Row]:
    return {(row.network, row.chip): row for row in golden_rows()}


@pytest.mark.parametrize("chip", ["cv180x", "cv181x", "cv182x", "cv183x"])
def test_networks_are_within_four_percent_in_the_mean(chip: str) -> None:
    errors = [abs(row.error) for (_, at), row in rows().items() if at == chip]
    assert len(errors) >= 9
    assert np.mean(errors) < 0.04


@pytest.mark.parametrize("network", ["resnet18", "resnet50", "googlenet", "mobilenet_v1", "mobilenet_v2"])
def test_programs_by_the_compiler_of_the_time_are_within_four_percent_on_every_chip(network: str) -> None:
    errors = [row.error for (name, _), row in rows().items() if name == network]
    assert len(errors) >= 2
    assert max(map(abs, errors)) < 0.04


def test_the_line_that_two_lanes_do_not_hide_predicts_networks_that_it_was_not_fitted_to() -> None:
    """The fit is of one parameter, by least squares of relative errors."""
    costs = [replace(Costs(), exposed_line=value) for value in (0.45, 0.65)]
    some = [row for (name, chip), row in rows().items() if chip == "cv180x" and name != "yolov8n_tdl"]
    few, many = (
        np.array([time_workload(r.timeline.workload, r.timeline.board, c).ms / r.published_ms - 1 for r in some])
        for c in costs
    )
    left_out = []
    for i in range(len(some)):
        low, slope = np.delete(few, i), np.delete(many - few, i)
        left_out.append(few[i] - (low @ slope) / (slope @ slope) * (many - few)[i])
    assert np.mean(np.abs(left_out)) < 0.04


def test_detectors_of_the_yolo_guide_are_within_ten_percent_on_every_chip() -> None:
    detectors = {key: row.error for key, row in rows().items() if key[0].endswith("_tdl")}
    assert len(detectors) == 9
    assert max(map(abs, detectors.values())) < 0.10


def test_traffic_of_yolov5s_is_within_three_percent() -> None:
    for chip in ("cv181x", "cv182x", "cv183x"):
        row = rows()["yolov5s_tdl", chip]
        assert row.published_mib is not None
        assert row.timeline.moved_bytes.sum() / (1 << 20) == pytest.approx(row.published_mib, rel=0.03)


def test_the_vendors_estimator_is_further_off_than_npusim() -> None:
    some = [row for (_, chip), row in rows().items() if chip in ("cv182x", "cv183x")]
    ours, vendor = (np.mean([abs(getattr(row, name)) for row in some]) for name in ("error", "vendor_error"))
    assert ours < vendor


def test_every_measurement_is_of_a_known_board_and_has_a_source() -> None:
    assert all(row.source and published(row.network, row.board) == row for row in PUBLISHED)


def _vendor_tiu(command: Command) -> int:
    return tiu_cycles(CV183X, tiu_rows(CV183X, np.frombuffer(command[1], np.uint8)[None])[0])


def _vendor_tdma(command: Command) -> int:
    return tdma_ns(CV181X, tdma_rows(CV181X, np.frombuffer(command[1], np.uint8)[None])[0])


def test_vendor_baseline_has_the_estimators_formula_for_convolution() -> None:
    # 41 + units * (taps * ceil(ic / 2) + 1) + 31: five cycles more than the chip takes.
    assert _vendor_tiu(conv(CV183X, 64, 256, 1, 19, 56)) == 17755 + 5
    assert _vendor_tiu(conv(CV183X, 3, 64, 7, 39, 112, stride=2)) == 54126


def test_vendor_baseline_has_the_estimators_formula_for_average_pooling() -> None:
    assert _vendor_tiu(pool(CV183X, 1, 2048, 7, 1, 1)) == 64 * (49 + 4) + 12


def test_vendor_baseline_counts_the_last_piece_of_a_transfer_only() -> None:
    whole = _vendor_tdma(transfer(CV181X, TransDir.G2L, (1, 8, 64, 64)))
    pieces = _vendor_tdma(transfer(CV181X, TransDir.G2L, (1, 8, 64, 64), strides=(65536, 8192, 64)))
    assert whole == 8 * 4096 * 1000 // 7544
    assert pieces == 4096 * 1000 // 7544

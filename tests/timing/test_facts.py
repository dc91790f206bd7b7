"""Facts in the PMU trace of a cv183x (npusim.timing.constants.TRACE), command by command."""

from __future__ import annotations

import pytest

from npusim.board import default_board
from npusim.chip import CV183X
from npusim.isa.opcodes import ArithEuTyp, PoolEuTyp, TransDir
from npusim.timing import TDMA, TIU, time_workload
from tests.support.case import Command
from tests.support.commands import conv, eltwise, lookup, matmul, pool, transfer, with_fields, workload_of

BOARD = default_board(CV183X)


def cycles(command: Command, engine: int = TIU) -> float:
    timeline = time_workload(workload_of([command]), BOARD)
    return (timeline.end_cycles(engine) - timeline.start_cycles(engine))[0]


@pytest.mark.parametrize(
    ("ic", "oc", "k", "oh", "ow", "measured"),
    [
        (64, 256, 1, 19, 56, 17755),
        (64, 64, 3, 14, 56, 28389),
        (256, 64, 1, 14, 56, 12709),
        (128, 128, 3, 10, 28, 41611),
        (256, 256, 3, 14, 14, 119979),
        (512, 32, 3, 7, 7, 9287),
        (1024, 32, 1, 7, 7, 2119),
        (2048, 32, 1, 7, 7, 4167),
    ],
)
def test_convolution_takes_the_measured_cycles(ic: int, oc: int, k: int, oh: int, ow: int, measured: int) -> None:
    assert round(cycles(conv(CV183X, ic, oc, k, oh, ow))) == measured


def test_strided_first_convolution_is_slowed_by_the_lines_that_it_fetches() -> None:
    command = conv(CV183X, 3, 64, 7, 39, 112, stride=2)
    assert cycles(command) == pytest.approx(75140, rel=0.035)
    assert cycles(command) > 67 + 546 * (49 * 2 + 1) * 1.3


def test_average_pooling_takes_the_measured_cycles() -> None:
    assert round(cycles(pool(CV183X, PoolEuTyp.AVG_POOL, 2048, 7, 1, 1))) == 3436


@pytest.mark.parametrize(("oh", "measured"), [(19, 2780), (18, 2606)])
def test_maximum_pooling_is_near_the_measured_cycles(oh: int, measured: int) -> None:
    assert cycles(pool(CV183X, PoolEuTyp.MAX_POOL, 64, 3, oh, 56, stride=2)) == pytest.approx(measured, rel=0.035)


@pytest.mark.parametrize(
    ("eu", "shape", "more", "measured"),
    [
        (ArithEuTyp.MUL, (1, 256, 14, 56), {"opt_res0_seg": 0}, 1413),
        (ArithEuTyp.MAC, (1, 256, 14, 56), {}, 3177),
        (ArithEuTyp.MUL, (1, 2048, 7, 7), {"opt_res0_seg": 0}, 937),
        (ArithEuTyp.MAC, (1, 2048, 7, 7), {}, 2089),
        (ArithEuTyp.COPY, (1, 2048, 7, 7), {}, 680),
        (ArithEuTyp.SUB, (1, 125, 1, 8), {"opd_typ": 1}, 52),
        (ArithEuTyp.MUL, (1, 32, 1, 8), {"opd_typ": 1}, 43),
        (ArithEuTyp.MAC, (1, 125, 1, 8), {"opd_typ": 1}, 55),
        (ArithEuTyp.XOR, (1, 32, 1, 32), {}, 46),
    ],
)
def test_element_wise_operation_takes_the_measured_cycles(
    eu: ArithEuTyp, shape, more: dict[str, int], measured: int
) -> None:  # type: ignore[no-untyped-def]
    # The start of a command that copies or works on bf16 is one cycle shorter than that of the int8 mul and mac.
    assert measured <= round(cycles(eltwise(CV183X, eu, shape, **more))) <= measured + 1


@pytest.mark.parametrize(("channels", "measured"), [(125, 173), (1, 74)])
def test_bf16_lookup_walks_through_the_table_in_every_unit(channels: int, measured: int) -> None:
    assert round(cycles(lookup(CV183X, (1, channels, 1, 8), bf16=True))) == measured


@pytest.mark.parametrize(("inner", "per_channel", "measured"), [(1014, False, 1066), (20, True, 97)])
def test_matrix_product_takes_a_cycle_for_each_inner_element(inner: int, per_channel: bool, measured: int) -> None:
    assert round(cycles(matmul(CV183X, inner, 512, per_channel))) == measured


@pytest.mark.parametrize(
    ("direction", "shape", "addr", "bursts", "beats", "measured"),
    [
        (TransDir.G2L, (1, 3, 80, 224), 0, 210, 3360, 5524),
        (TransDir.G2L, (1, 64, 1, 9), 800, 4, 36, 206),
        (TransDir.G2L, (1, 128, 1, 9), 2848, 6, 72, 304),
        (TransDir.G2L, (1, 256, 1, 9), 2592, 11, 144, 502),
        (TransDir.G2L, (1, 512, 1, 9), 4000, 20, 288, 900),
        (TransDir.G2L, (1, 1024, 1, 9), 4000, 38, 576, 1704),
        (TransDir.G2L, (1, 2048, 7, 7), 0, 392, 6272, 9887),
        (TransDir.L2G, (1, 32, 7, 7), 3744, 8, 98, 216),
        (TransDir.L2G, (1, 32, 7, 7), 608, 7, 98, 216),
        (TransDir.L2G, (1, 2048, 7, 7), 0, 392, 6272, 9632),
        (TransDir.L2G, (1, 2048, 1, 1), 0, 8, 128, 2129),
        (TransDir.L2L, (1, 125, 1, 16), 0, 0, 0, 266),
        (TransDir.L2L, (1, 32, 1, 1), 0, 0, 0, 83),
    ],
)
def test_transfer_has_the_measured_bursts_and_beats_and_nearly_the_time(  # type: ignore[no-untyped-def]
    direction: TransDir, shape, addr: int, bursts: int, beats: int, measured: int
) -> None:
    command = transfer(CV183X, direction, shape, addr)
    work = workload_of([command]).tdma
    assert (work.read_bursts + work.write_bursts)[0] == bursts
    assert (work.read_beats + work.write_beats)[0] == beats
    # A first load after a pause, which the one of 3360 beats is, takes longer than those that follow.
    assert cycles(command, TDMA) == pytest.approx(measured, rel=0.06)


def test_one_engine_waits_for_the_other_as_long_as_measured() -> None:
    load = transfer(CV183X, TransDir.G2L, (1, 32, 4, 4))
    work = conv(CV183X, 32, 32, 1, 4, 4)
    store = transfer(CV183X, TransDir.L2G, (1, 32, 4, 4), cmd_id=2, wait_id_tpu=1)
    waiting = with_fields(work, cmd_id_en=1, cmd_id_gdma=1)
    timeline = time_workload(workload_of([load, waiting, store]), BOARD)
    tiu, tdma = ((timeline.start_cycles(e), timeline.end_cycles(e)) for e in (TIU, TDMA))
    assert round(tiu[0][0] - tdma[1][0]) == 4
    assert round(tdma[0][1] - tiu[1][0]) == 2


def test_commands_of_one_engine_follow_each_other_after_one_cycle() -> None:
    timeline = time_workload(
        workload_of([conv(CV183X, 32, 32, 1, 4, 4), with_fields(conv(CV183X, 32, 32, 1, 4, 4), cmd_id_tpu=2)]), BOARD
    )
    assert round(timeline.start_cycles(TIU)[1] - timeline.end_cycles(TIU)[0]) == 1

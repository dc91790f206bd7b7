"""Errors of npusim's times and of the vendor's estimator against published times, and how fast times are computed.

One constant was fitted to published times, exposed_line, to those of cv180x. They also decided two questions: cv182x
has x16 DRAM (by resnet18), LMEM moves cost two cycles a line (by googlenet and yolov8). All others come from one PMU
trace of resnet50 on a cv183x or from the vendor's estimator."""

from __future__ import annotations

import lzma
from functools import cache

import numpy as np

from benchmarks.claim import Say
from benchmarks.cpu import median_seconds
from benchmarks.needs import TIMING_FILES
from benchmarks.support.published_times import MAIXCAM_FRAMES_PER_S
from benchmarks.support.timed_networks import (
    DATA,
    FITTED,
    HEAD,
    Row,
    folder_rows,
    golden_rows,
    read_cmdbuf,
    read_model,
    row_of,
)
from npusim.board import Board, board_named, default_board
from npusim.chip import CHIPS
from npusim.loader.cvimodel import parse_cvimodel
from npusim.loader.cvimodel_types import TpuRoutine
from npusim.program.model import section_cmdbufs
from npusim.timing import Timeline, Workload, concatenate, time_workload, workload_of_cmdbuf, workload_of_model


@cache
def golden() -> dict[tuple[str, str], Row]:
    return {(row.network, row.chip): row for row in golden_rows()}


def networks(say: Say) -> float:
    """Mean error in percent of the networks of NPUSIM_TIMING_FILES, each by the published network's program of the
    compiler of the time."""
    say("Files by today's compiler against the published time of the network of that name")
    say(HEAD)
    rows = list(folder_rows(TIMING_FILES.path()))
    for row in rows:
        say(f"{row}")
    summary("all files", rows, say)
    say("The same rows by the published network's program of the compiler of the time")
    say(HEAD)
    same = [golden()[row.network, row.chip] for row in rows]
    for row in same:
        say(f"{row}" + ("   (decided a question)" if (row.network, row.chip) in FITTED else ""))
    return 100 * summary("by the compiler of the time", same, say)


def programs(say: Say) -> float:
    """Mean error in percent of the programs in golden/data/timing."""
    say(HEAD)
    for row in golden().values():
        say(f"{row}")
    say("DRAM traffic, MiB an inference: published, npusim")
    for row in golden().values():
        if row.published_mib:
            mib, board = int(row.timeline.moved_bytes.sum()) / (1 << 20), row.published_mib
            say(f"{row.network:22} {row.chip:7} {board:8.2f} {mib:8.2f} {mib / board - 1:+7.1%}")
    for chip in CHIPS:
        summary(chip.name, [row for (_, at), row in golden().items() if at == chip.name], say)
    return 100 * summary("all", list(golden().values()), say)


def sg2002(say: Say) -> float:
    """Error in percent of efficientnet_lite0 in bf16 on an SG2002 at 700 MHz, a cv181x program."""
    program = read_cmdbuf(DATA / "timing" / "efficientnet_lite0.cv181x.bf16.cmdbuf.xz")
    row = row_of("efficientnet_lite0", [program], "recamera")
    assert row is not None
    say(HEAD)
    say(f"{row}   bf16")
    return 100 * abs(row.error)


def frames(say: Say) -> float:
    """The time of a frame on a MaixCAM less the predicted TPU time, and how much that differs between mobilenet_v2 and
    resnet18, in milliseconds. Camera and post-processing take the same time with each network, so a difference is an
    error of the predictions."""
    folder = TIMING_FILES.path()
    files = {name: read_model(folder / f"{name}_cv181x_int8.cvimodel.xz")[0] for name in ("mobilenet_v2", "resnet18")}
    files["resnet50"] = read_cmdbuf(DATA / "timing" / "resnet50.cv181x.int8.cmdbuf.xz")
    say("milliseconds a frame with camera and post-processing, npusim's TPU time, and what is left for the rest:")
    rest = {}
    for name, cmdbuf in files.items():
        frame = 1000 / MAIXCAM_FRAMES_PER_S[name]
        ours = time_workload(workload_of_cmdbuf(cmdbuf), board_named("licheerv-nano")).ms
        rest[name] = frame - ours
        say(f"{name:22} {frame:8.2f} {ours:8.2f} {frame - ours:8.2f}")
    return abs(rest["mobilenet_v2"] - rest["resnet18"])


def summary(what: str, rows: list[Row], say: Say) -> float:
    """The mean error of npusim."""
    ours, vendor = (np.abs([getattr(row, name) for row in rows]) for name in ("error", "vendor_error"))
    say(
        f"{what}: {len(rows)} rows, npusim {ours.mean():.1%} mean, {ours.max():.1%} most; vendor {vendor.mean():.0%}, "
        f"{vendor.max():.0%}"
    )
    return float(ours.mean())


def variants(say: Say) -> float:
    """Variants of a board that resnet18 for cv180x, 36,786 commands, is timed on in a second of CPU time."""
    return variants_a_second("cv180x", say)


def small_variants(say: Say) -> float:
    """The same of resnet18 for cv181x, 1,518 commands."""
    return variants_a_second("cv181x", say)


def variants_a_second(chip: str, say: Say) -> float:
    workload = workload_of_cmdbuf(read_model(TIMING_FILES.path() / f"resnet18_{chip}_int8.cvimodel.xz")[0])
    board = default_board(workload.chip)
    boards = [
        board.variant(clock_mhz=300 + 10 * i, dram_gbps=1 + 0.1 * i, banks=(1, 2, 4, 8, 16, 32)[i % 6])
        for i in range(60)
    ]
    rate = len(boards) / median_seconds(lambda: [time_workload(workload, b) for b in boards], 3)
    say(f"resnet18 on {chip}, {workload.num_commands} commands: {rate:.0f} variants a second")
    return rate


def schedule(say: Say) -> float:
    """CPU seconds from the file to the schedule of a program that is resnet50 for cv182x a hundred times over."""
    path = TIMING_FILES.path() / "resnet50_cv182x_int8.cvimodel.xz"
    raw, (single,) = lzma.decompress(path.read_bytes()), read_model(path)
    seconds = 0.0
    for copies, turns in ((1, 3), (10, 3), (100, 1)):
        seconds = median_seconds(lambda n=copies: load_and_time(raw, n, default_board(single.chip)), turns)  # type: ignore[misc]
        commands = single.num_commands * copies
        say(f"{copies:3} times: {commands:8} commands, {seconds:6.2f} s, {1e6 * seconds / commands:.2f} us a command")
    return seconds


def load_and_time(raw: bytes, copies: int, board: Board) -> Timeline:
    parts: list[Workload] = []
    for _ in range(copies):
        model = parse_cvimodel(raw, verify_md5=False)
        routine = next(r for r in model.programs[0].routines if isinstance(r, TpuRoutine))
        parts += [workload_of_cmdbuf(c) for c in section_cmdbufs(model, routine.section)]
    return time_workload(concatenate(parts), board)


def cycles(say: Say) -> float:
    """Million simulated cycles in a second of CPU time, of the bundled step for cv181x."""
    workload = workload_of_model(DATA / "functional" / "step_cv181x_int8.cvimodel")
    board = default_board(workload.chip)
    seconds = median_seconds(lambda: time_workload(workload, board), 200)
    simulated = time_workload(workload, board).cycles
    say(f"{simulated:.0f} cycles in {1e3 * seconds:.2f} ms")
    return simulated / seconds / 1e6

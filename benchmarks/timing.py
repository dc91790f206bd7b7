"""How near npusim's times come to published ones, the vendor's estimator beside them, and how fast they are computed.

    python -m benchmarks.timing [FOLDER]

FOLDER holds `<network>_<chip>_int8.cvimodel[.xz]` of networks at 224x224; each is compared with the published time of
its network. Then come other networks in golden/data/timing, DRAM traffic, an SG2002, and the speed. No constant was
fitted to published times; they decided three questions: cv180x takes one input channel a cycle (by resnet18), cv182x
has x16 DRAM (by resnet18), LMEM moves cost two cycles a line (by googlenet and yolov8). All constants come from one PMU
trace of resnet50 on a cv183x or from the vendor's estimator."""

from __future__ import annotations

import lzma
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.lrn import lrns_of_googlenet
from benchmarks.published_times import LIKE_FOR_LIKE, MAIXCAM_FRAMES_PER_S, published
from benchmarks.vendor_estimate import estimate_ms
from npusim.board import board_named, default_board
from npusim.chip import CHIPS, chip_named
from npusim.loader.cvimodel import parse_cvimodel
from npusim.loader.cvimodel_types import TpuRoutine
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.model import section_cmdbufs
from npusim.timing import Timeline, concatenate, time_workload, workload_of_cmdbuf

DATA = Path(__file__).parents[1] / "golden" / "data"
FITTED = {("resnet18", "cv180x"), ("resnet18", "cv182x")}


@dataclass(frozen=True)
class Row:
    """One program beside one measurement."""

    network: str
    chip: str
    published_ms: float
    timeline: Timeline
    cmdbufs: list[Cmdbuf]
    published_mb: float | None

    @cached_property
    def vendor_ms(self) -> float:
        return sum(map(estimate_ms, self.cmdbufs))

    @property
    def error(self) -> float:
        return self.timeline.ms / self.published_ms - 1

    @property
    def vendor_error(self) -> float:
        return self.vendor_ms / self.published_ms - 1

    def __str__(self) -> str:
        t = self.timeline
        return (
            f"{self.network:22} {self.chip:7} {self.published_ms:8.2f} {t.ms:8.2f} {self.error:+7.1%} "
            f"{self.vendor_ms:8.2f} "
            f"{self.vendor_error:+7.0%}   {t.tiu_busy:4.0%} {t.tdma_busy:4.0%} {t.overlap:4.0%}"
        )


HEAD = (
    f"{'network':22} {'chip':7} {'board ms':>8} {'npusim':>8} {'error':>7} {'vendor':>8} {'error':>7}    TIU TDMA both"
)


def read_cmdbuf(path: Path) -> Cmdbuf:
    """A command buffer of golden/data/timing; the name gives the chip."""
    chip = next(part for part in path.name.split(".") if part in (c.name for c in CHIPS))
    return parse_cmdbuf(chip_named(chip), lzma.decompress(path.read_bytes()))


def read_model(path: Path) -> list[Cmdbuf]:
    """The command buffers of a .cvimodel, plain or xz."""
    data = path.read_bytes()
    model = parse_cvimodel(lzma.decompress(data) if path.suffix == ".xz" else data, verify_md5=False)
    return [
        c for r in model.programs[0].routines if isinstance(r, TpuRoutine) for c in section_cmdbufs(model, r.section)
    ]


def row_of(network: str, cmdbufs: list[Cmdbuf], measured: str, board: str | None = None) -> Row | None:
    """`network`'s program beside what was measured of the network `measured`."""
    chip = cmdbufs[0].chip
    target = board_named(board) if board else default_board(chip)
    found = published(measured, target.name)
    if found is None:
        return None
    timeline = time_workload(concatenate([workload_of_cmdbuf(c) for c in cmdbufs]), target)
    return Row(network, chip.name, found.ms, timeline, cmdbufs, found.dram_mb)


def folder_rows(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("*_int8.cvimodel*")):
        network = path.name.split(".")[0].rsplit("_", 2)[0]
        row = row_of(network, read_model(path), network)
        if row:
            yield row


def golden_rows() -> Iterator[tuple[Row, str]]:
    """(row, name of the measured network) of every int8 program in golden/data/timing."""
    alike = {ours: name for name, (ours, _) in LIKE_FOR_LIKE.items()}
    for path in sorted((DATA / "timing").glob("*.int8*.cmdbuf.xz")):
        name = path.name.split(".cv")[0]
        measured = alike.get(name, name)
        cmdbufs = [read_cmdbuf(path)]
        if name == "googlenet_5x5":
            cmdbufs += lrns_of_googlenet(cmdbufs[0].chip)
        how = path.name.removesuffix(".cmdbuf.xz").split(".int8")[1].replace(".", " ")
        row = row_of(name + how, cmdbufs, measured)
        if row:
            yield row, measured


def summary(what: str, rows: list[Row]) -> None:
    ours, vendor = (np.abs([getattr(row, name) for row in rows]) for name in ("error", "vendor_error"))
    print(
        f"{what}: {len(rows)} rows, npusim {ours.mean():.1%} mean, {ours.max():.1%} most; vendor "
        f"{vendor.mean():.0%}, {vendor.max():.0%}"
    )


def compare_folder(folder: Path, golden: list[tuple[Row, str]]) -> None:
    print(f"Files of {folder.name}/ against the published time of the network of that name\n{HEAD}")
    rows = list(folder_rows(folder))
    for row in rows:
        print(row, "  (decided a question, see --help)" if (row.network, row.chip) in FITTED else "")
    summary("all files", rows)
    print(f"\nThe same rows with a program of the network that was published, where the file's is another one\n{HEAD}")
    same = []
    for row in rows:
        ours, reason = LIKE_FOR_LIKE.get(row.network, (row.network, ""))
        twin = next((r for r, _ in golden if (r.network, r.chip) == (ours, row.chip)), None)
        same.append(twin or row)
        print(same[-1], f"  {reason}" if reason else "")
    summary("like for like", same)
    explained = ("mobilenet_v2_caffe", "cv181x")
    summary(
        "  without mobilenet_v2 on cv181x (docs/timing.md says why)",
        [r for r in same if (r.network, r.chip) != explained],
    )


def compare_golden(golden: list[tuple[Row, str]]) -> None:
    print(f"\nOther programs: golden/data/timing\n{HEAD}")
    for row, _ in golden:
        print(row)
    grouped = [row for row, _ in golden if " " not in row.network]
    summary("all but those compiled in another way", grouped)
    print("\nDRAM traffic, megabytes an inference: published, npusim")
    for row in grouped:
        if row.published_mb:
            mb = (row.timeline.dram_read_bytes + row.timeline.dram_write_bytes) / 1e6
            print(f"{row.network:22} {row.chip:7} {row.published_mb:8.2f} {mb:8.2f} {mb / row.published_mb - 1:+7.1%}")


def compare_sg2002(folder: Path | None) -> None:
    print("\nSG2002 at 700 MHz (a cv181x program)")
    row = row_of(
        "efficientnet_lite0",
        [read_cmdbuf(DATA / "timing" / "efficientnet_lite0.cv181x.bf16.cmdbuf.xz")],
        "efficientnet_lite0",
        "recamera",
    )
    if row:
        print(f"{HEAD}\n{row}   bf16")
    if folder is None:
        return
    print("milliseconds a frame with camera and post-processing, npusim's TPU time, and what is left for the rest:")
    files = {name: read_model(folder / f"{name}_cv181x_int8.cvimodel.xz") for name in ("mobilenet_v2", "resnet18")}
    files["resnet50"] = [read_cmdbuf(DATA / "timing" / "resnet50.cv181x.int8.cmdbuf.xz")]
    for name, cmdbufs in files.items():
        frame = 1000 / MAIXCAM_FRAMES_PER_S[name]
        ours = time_workload(workload_of_cmdbuf(cmdbufs[0]), board_named("licheerv-nano")).ms
        print(f"{name:22} {frame:8.2f} {ours:8.2f} {frame - ours:8.2f}")


def speed(folder: Path | None) -> None:
    print("\nSpeed (one thread, seconds of CPU time)")
    if folder:
        workload = workload_of_cmdbuf(read_model(folder / "resnet18_cv181x_int8.cvimodel.xz")[0])
        _variants("resnet18 on cv181x", workload)
        _variants("resnet18 on cv180x", workload_of_cmdbuf(read_model(folder / "resnet18_cv180x_int8.cvimodel.xz")[0]))
        _file_to_schedule(folder / "resnet50_cv182x_int8.cvimodel.xz")
    step = workload_of_cmdbuf(read_model(DATA / "functional" / "step_cv181x_int8.cvimodel")[0])
    board = default_board(step.chip)
    seconds = _best(lambda: time_workload(step, board), 50)
    cycles = time_workload(step, board).cycles
    print(
        f"step on cv181x: {cycles:.0f} cycles in {seconds * 1e3:.2f} ms: {cycles / seconds / 1e6:.0f} million "
        "simulated cycles a second"
    )


def _variants(what: str, workload) -> None:  # type: ignore[no-untyped-def]
    board = default_board(workload.chip)
    boards = [
        board.variant(clock_mhz=300 + 10 * i, dram_gbps=1 + 0.1 * i, banks=(1, 2, 4, 8, 16, 32)[i % 6])
        for i in range(60)
    ]
    time_workload(workload, board)
    seconds = _best(lambda: [time_workload(workload, b) for b in boards], 3)
    print(
        f"{what}, {workload.num_commands} commands: {len(boards) / seconds:.0f} variants of clock, bandwidth and "
        "banks a second"
    )


def _file_to_schedule(path: Path) -> None:
    """One command buffer as often as said, read from a file and scheduled."""
    raw = lzma.decompress(path.read_bytes())
    single = read_model(path)[0]
    board = default_board(single.chip)
    for copies in (1, 10, 100):
        count = 1 if copies == 100 else 3
        seconds = _best(lambda n=copies: _load_and_time(raw, n, board), count)  # type: ignore[misc]
        commands = single.num_commands * copies
        print(
            f"resnet50 on cv182x, {copies:3} times: {commands:8} commands, {seconds:6.2f} s, "
            f"{seconds / commands * 1e6:.2f} us a command"
        )


def _load_and_time(raw: bytes, copies: int, board) -> Timeline:  # type: ignore[no-untyped-def]
    parts = []
    for _ in range(copies):
        model = parse_cvimodel(raw, verify_md5=False)
        routine = next(r for r in model.programs[0].routines if isinstance(r, TpuRoutine))
        parts += [workload_of_cmdbuf(c) for c in section_cmdbufs(model, routine.section)]
    return time_workload(concatenate(parts), board)


def _best(call, count: int) -> float:  # type: ignore[no-untyped-def]
    times = []
    for _ in range(count):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        return
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    golden = list(golden_rows())
    if folder:
        compare_folder(folder, golden)
    compare_golden(golden)
    compare_sg2002(folder)
    speed(folder)


if __name__ == "__main__":
    main()

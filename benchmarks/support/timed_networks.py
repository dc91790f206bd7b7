"""Programs of real networks, each beside its published time and the vendor's estimate."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.support.published_times import published
from benchmarks.support.vendor_estimate import estimate_ms
from npusim.board import board_named, default_board
from npusim.chip import CHIPS, chip_named
from npusim.loader.cvimodel import parse_cvimodel
from npusim.loader.cvimodel_types import TpuRoutine
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.model import section_cmdbufs
from npusim.timing import Timeline, concatenate, time_workload, workload_of_cmdbuf

DATA = Path(__file__).parents[2] / "golden" / "data"
FITTED = {("resnet18", "cv182x")}
"""It decided that cv182x has x16 DRAM."""


@dataclass(frozen=True)
class Row:
    """One program beside one measurement."""

    network: str
    chip: str
    published_ms: float
    timeline: Timeline
    cmdbufs: list[Cmdbuf]
    published_mib: float | None

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


def row_of(network: str, cmdbufs: list[Cmdbuf], board: str | None = None) -> Row | None:
    """`network`'s program beside what was measured of it, by default on the evaluation board of its chip."""
    chip = cmdbufs[0].chip
    target = board_named(board) if board else default_board(chip)
    found = published(network, target.name)
    if found is None:
        return None
    timeline = time_workload(concatenate([workload_of_cmdbuf(c) for c in cmdbufs]), target)
    return Row(network, chip.name, found.ms, timeline, cmdbufs, found.dram_mib)


def folder_rows(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("*_int8.cvimodel*")):
        network = path.name.split(".")[0].rsplit("_", 2)[0]
        row = row_of(network, read_model(path))
        if row:
            yield row


def golden_rows() -> Iterator[Row]:
    """Every int8 program in golden/data/timing that has a published time."""
    for path in sorted((DATA / "timing").glob("*.int8*.cmdbuf.xz")):
        row = row_of(path.name.split(".cv")[0], [read_cmdbuf(path)])
        if row:
            yield row

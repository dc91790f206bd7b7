"""Compares the model with a PMU trace of a cv183x, command by command. The constants of npusim.timing are from it.

The trace is python/cvi_toolkit/performance/performance_viewer/example/resnet50_des.csv of sophgo/tpu_compiler @6299ea0.
Its transfers have shapes and addresses, its TIU commands only times. Shows how many transfers have exactly the
predicted bursts and beats, how far single transfers and their sums are from the predicted times, and what passes
between commands."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.claim import Say
from benchmarks.needs import PMU_TRACE
from npusim.board import default_board
from npusim.chip import CV183X
from npusim.isa.opcodes import TransDir
from npusim.program.cmdbuf import build_cmdbuf
from npusim.timing import Costs, workload_of_bytes
from npusim.timing.cost import tdma_ps
from tests.support.case import tdma

DIRECTIONS = {1: TransDir.G2L, 2: TransDir.L2G, 3: TransDir.L2L}
TIU_TYPE = 4


@dataclass(frozen=True)
class Row:
    """One line of the trace."""

    type: int
    bursts: int
    beats: int
    start: int
    duration: int
    name: str
    fields: dict[str, int]
    """Descriptor fields of a transfer."""

    @property
    def end(self) -> int:
        return self.start + self.duration


def read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    names = lines[0][16:]
    rows = []
    for line in lines[1:]:
        fields = {name: int(value) for name, value in zip(names, line[16:], strict=False)}
        if fields:
            fields |= {
                "src_base_addr_low": int(line[10][2:]) & 0xFFFFFFFF,
                "dst_base_addr_low": int(line[11][2:]) & 0xFFFFFFFF,
            }
        rows.append(Row(int(line[0]), int(line[2]), int(line[3]), int(line[5]), int(line[6]), line[9], fields))
    return rows


def predict(row: Row, itemsize: int) -> tuple[int, int, float]:
    """(bursts, beats, cycles) of an uncompressed transfer with elements of `itemsize` bytes, which the trace does not
    say."""
    fields = dict(row.fields)
    for side in ("src", "dst"):
        fields[f"{side}_c_stride_high"] = fields[f"{side}_c_stride_low"] >> 16
        fields[f"{side}_c_stride_low"] &= 0xFFFF
    fmt = {"src_fmt": itemsize, "dst_fmt": itemsize, "sys_dtype": int("Matrix" in row.name), "cmd_id": 1}
    command = tdma(CV183X, trans_dir=DIRECTIONS[row.type], **fields, **fmt)
    work = workload_of_bytes(CV183X, build_cmdbuf(CV183X, [command])).tdma
    board = default_board(CV183X)
    cycles = tdma_ps(work, board, Costs(), np.zeros(1, bool))[0] / board.tick_ps
    return int((work.read_bursts + work.write_bursts)[0]), int((work.read_beats + work.write_beats)[0]), float(cycles)


def compare(rows: list[Row], say: Say) -> float:
    """Percent of the uncompressed transfers whose bursts and beats are exactly those of the trace."""
    exact: Counter[tuple[str, str]] = Counter()
    times: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for row in rows:
        if row.type == TIU_TYPE or "Compression" in row.name:
            continue
        guesses = [predict(row, itemsize) for itemsize in (1, 2)]
        found = next((g for g in guesses if g[:2] == (row.bursts, row.beats)), None)
        exact[row.name, "exact" if found else "other"] += 1
        times[row.name].append(((found or guesses[0])[2], row.duration))
    say(f"{'uncompressed transfers':24} {'bursts and beats':18} {'cycles':>9} {'predicted':>9}  mean error of one")
    for name, pairs in times.items():
        ours, theirs = (np.array(column) for column in zip(*pairs, strict=True))
        counts = f"{exact[name, 'exact']} of {len(pairs)} exact"
        say(f"{name:24} {counts:18} {theirs.sum():9} {ours.sum():9.0f}  {np.abs(ours / theirs - 1).mean():.1%}")
    right = sum(count for (_, verdict), count in exact.items() if verdict == "exact")
    return 100 * right / sum(exact.values())


def gaps(rows: list[Row], say: Say) -> None:
    """Cycles between the end of a command and the start of the next one of its engine, or of one of the other engine
    that waits for it."""
    for name, mine in (
        ("TIU", [r for r in rows if r.type == TIU_TYPE]),
        ("TDMA", [r for r in rows if r.type != TIU_TYPE]),
    ):
        others = np.sort([r.end for r in rows if (r.type == TIU_TYPE) != (name == "TIU")])
        between: Counter[int] = Counter()
        waited: Counter[int] = Counter()
        for before, row in pairwise(mine):
            if row.start - before.end == 1:
                between[1] += 1
            else:
                place = np.searchsorted(others, row.start) - 1
                waited[int(row.start - others[place]) if place >= 0 else -1] += 1
        say(
            f"{name}: {between[1]} commands follow the one before after 1 cycle; behind the other engine: "
            f"{dict(waited.most_common(4))}"
        )


def bursts(say: Say) -> float:
    """Percent of the trace's uncompressed transfers whose bursts and beats are predicted exactly."""
    rows = read(PMU_TRACE.path())
    span = max(r.end for r in rows) - min(r.start for r in rows)
    say(f"{len(rows)} commands, {span} cycles")
    gaps(rows, say)
    return compare(rows, say)

"""Predicted times and ION of public model files against the vendor's table (benchmarks/support/public_files.py)."""

from __future__ import annotations

import numpy as np

from benchmarks.claim import CannotRun, Say
from benchmarks.needs import PUBLIC_MODELS
from benchmarks.support.public_files import PUBLIC_FILES, RETINAFACE_608, by_blob, found
from benchmarks.support.timed_networks import DATA, golden_rows, read_cmdbuf, row_of
from npusim.board import board_named
from npusim.loader.cvimodel import load_cvimodel
from npusim.profile import profile_program
from npusim.runtime.ion import ion_use

OLD_TABLE_RETINAFACE_600_MS = 14.25
"""retinaface_mnet25_600 in best_performance_cv181x.csv."""


def times(say: Say) -> float:
    """Mean error in percent of predicted forwards of public files: TPU, CPU routines and runtime."""
    errors = np.abs(list(_errors(say).values()))
    say(f"{len(errors)} files: {errors.mean():.1%} mean, {errors.max():.1%} most")
    return 100 * float(errors.mean())


def _errors(say: Say) -> dict[tuple[str, str], float]:
    """Error of each public file, by its name and chip."""
    head = f"{'board ms':>8} {'npusim':>8} {'error':>7} {'TPU':>8} {'CPU':>6} {'runtime':>7}"
    say(f"{'file':36} {head}   share of CPU and runtime")
    errors = {}
    for row, path in found(PUBLIC_MODELS.path()):
        profile = profile_program(path, board_named("cv181x-evb"))
        total, cpu = profile.total_ms, profile.host.cpu_ps
        assert total is not None and cpu is not None
        ours = profile.timeline.ms if row.tpu_alone else total
        error = errors[row.name, "cv181x"] = ours / row.ms - 1
        host = 0.0 if row.tpu_alone else 1 - profile.timeline.ms / total
        parts = f"{profile.timeline.ms:8.3f} {cpu / 1e9:6.3f} {profile.host.runtime_ps / 1e9:7.3f}   {host:6.1%}"
        note = " TPU alone" * row.tpu_alone + f" known by {row.same}" * (row.same != "ION")
        say(f"{row.name:36} {row.ms:8.3f} {ours:8.3f} {error:+7.1%} {parts}{note}")
    if not errors:
        raise CannotRun(f"no file of the table is in {PUBLIC_MODELS.path()}: {PUBLIC_MODELS.how}")
    return errors


def ion(say: Say) -> float:
    """Number of public files for which `npusim info` prints the ION size of the vendor's table, in all its digits."""
    equal = 0
    for row, path in found(PUBLIC_MODELS.path()):
        digits = len(row.ion_mib.partition(".")[2])
        ours = f"{ion_use(load_cvimodel(path)).total / (1 << 20):.{digits}f}"
        say(f"{row.name:36} {row.ion_mib} {ours}" + (f" (known by {row.same})" if row.same != "ION" else ""))
        equal += row.same == "ION" and ours == row.ion_mib
    say(f"{sum(row.same == 'ION' for row in PUBLIC_FILES)} files of the table are the timed ones")
    return equal


def dram(say: Say) -> float:
    """Most error in percent of predicted DRAM traffic of public files whose traffic was measured."""
    errors = []
    for row, path in found(PUBLIC_MODELS.path()):
        if row.dram_mib is not None:
            ours = int(profile_program(path, board_named("cv181x-evb")).timeline.moved_bytes.sum()) / (1 << 20)
            errors.append(abs(ours / row.dram_mib - 1))
            say(f"{row.name:36} {row.dram_mib} MiB, npusim {ours:.2f}, {ours / row.dram_mib - 1:+.2%}")
    if not errors:
        raise CannotRun(f"no file with a measured traffic is in {PUBLIC_MODELS.path()}: {PUBLIC_MODELS.how}")
    return 100 * max(errors)


def depthwise(say: Say) -> float:
    """Error in percent of a network of depthwise convolutions in the vendor's old table, by a file of that kind of
    compiler: retinaface with MobileNet 0.25 at 608x608, scaled to the 600x600 that were timed."""
    paths = by_blob(PUBLIC_MODELS.path())
    if RETINAFACE_608 not in paths:
        raise CannotRun(f"retinaface_mnet0.25_608.cvimodel is not in {PUBLIC_MODELS.path()}: {PUBLIC_MODELS.how}")
    timeline = profile_program(paths[RETINAFACE_608], board_named("cv181x-evb")).timeline
    scaled = timeline.ms * (600 / 608) ** 2
    say(f"608x608: {timeline.ms:.2f} ms, scaled to 600x600: {scaled:.2f}, published {OLD_TABLE_RETINAFACE_600_MS}")
    return 100 * abs(scaled / OLD_TABLE_RETINAFACE_600_MS - 1)


def every_row(say: Say) -> float:
    """Mean error in percent over all published rows: public files, and programs of published networks by the compiler
    of the time, or by today's where only that could be had."""
    timed_itself = ("yolov8n_tdl", "cv181x")
    rows = [row for row in golden_rows() if (row.network, row.chip) != timed_itself]
    bf16 = row_of(
        "efficientnet_lite0", [read_cmdbuf(DATA / "timing" / "efficientnet_lite0.cv181x.bf16.cmdbuf.xz")], "recamera"
    )
    assert bf16 is not None
    errors = {(row.network, row.chip): row.error for row in rows}
    errors |= {(bf16.network, "sg2002"): bf16.error} | _errors(say)
    unknown = [row.name for row in PUBLIC_FILES if row.same == "name"]
    for key, error in errors.items():
        if abs(error) > 0.2:
            say(f"{' on '.join(key)}: {error:+.1%}; docs/timing.md says why")
    known = [error for (name, _), error in errors.items() if name not in unknown]
    say(f"{len(known)} rows whose program is known: {np.mean(np.abs(known)):.1%} mean")
    every = np.abs(list(errors.values()))
    say(f"{len(every)} rows: {every.mean():.1%} mean, {np.sum(every > 0.2)} above 20 %")
    return 100 * float(every.mean())

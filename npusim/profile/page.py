"""A profile as one HTML page that needs no other file: data/profile.html with the data filled in."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npusim.insn import INSTRUCTIONS
from npusim.profile.pressure import LmemCurve
from npusim.profile.profile import Profile
from npusim.profile.report import report_data
from npusim.timing.timeline import TDMA, TIU

POINTS = 2000
"""At most this many points of the LMEM curve, more than a screen shows."""
_PS_PER_STEP = 100
"""Times in the page are whole tenths of a nanosecond, since whole numbers are shorter and faster to write and read."""


def profile_page(profile: Profile) -> str:
    """The page as HTML text."""
    template = (files("npusim") / "data" / "profile.html").read_text(encoding="utf-8")
    data = {"report": report_data(profile), "events": _events(profile)}
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return template.replace("/*DATA*/", text.replace("<", "\\u003c"))


def _events(profile: Profile) -> dict[str, Any]:
    timeline, runs, dram = profile.timeline, profile.layer_runs, profile.dram
    work, first = timeline.workload, timeline.first_ps
    times, live = _thinned(profile.lmem)
    way = np.where(timeline.dram_bytes("read") > 0, "r", np.where(timeline.dram_bytes("write") > 0, "w", "m"))
    return {
        "end": max(timeline.ps / _PS_PER_STEP, 1),
        "names": [kind.mnemonic for kind in INSTRUCTIONS],
        "layers": {
            "start": _steps(runs.start_ps, first),
            "end": _steps(runs.end_ps, first),
            "layer": runs.layer.tolist(),
        },
        "tiu": _track(profile, TIU, work.tiu.kind, work.tiu.macs),
        "tdma": _track(profile, TDMA, work.tdma.kind, timeline.moved_bytes) | {"way": "".join(way.tolist())},
        "dram": {"time": _steps(dram.edges_ps, first), "gbps": np.round(dram.gbps, 3).tolist()},
        "lmem": {"time": _steps(times, first), "bytes": live.tolist()},
    }


def _track(
    profile: Profile, engine: int, kind: NDArray[np.int64], amount: NDArray[np.int64]
) -> dict[str, list[int] | str]:
    timeline = profile.timeline
    work = timeline.workload
    labels = {"kind": kind, "layer": work.layer[engine], "index": work.index[engine], "amount": amount}
    return {
        "start": _steps(timeline.start_ps[engine], timeline.first_ps),
        "end": _steps(timeline.end_ps[engine], timeline.first_ps),
    } | {name: values.tolist() for name, values in labels.items()}


def _steps(times_ps: NDArray[Any], first_ps: int) -> list[int]:
    return np.rint((times_ps - first_ps) / _PS_PER_STEP).astype(np.int64).tolist()


def _thinned(curve: LmemCurve) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(times, bytes) of at most POINTS points of `curve`, each with the largest value of those that it replaces."""
    step = -(-len(curve.times_ps) // POINTS)
    if step <= 1:
        return curve.times_ps, curve.num_bytes
    first = np.arange(0, len(curve.times_ps), step)
    return curve.times_ps[first], np.maximum.reduceat(curve.num_bytes, first)

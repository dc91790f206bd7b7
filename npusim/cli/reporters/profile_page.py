"""A profile as one HTML page that needs nothing else: data/profile.html with the data in it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np

from npusim.insn import INSTRUCTIONS
from npusim.profile.attribution import layer_runs
from npusim.profile.pressure import dram_gbps_over_time, lmem_live_bytes
from npusim.timing.timeline import TDMA, TIU, Timeline

POINTS = 2000
"""Most points of a curve; more than a screen shows."""
_PS_PER_NS = 1000


def profile_page(timeline: Timeline, data: dict[str, Any]) -> str:
    """The page. `data` is the report (npusim.profile.report.profile_data)."""
    template = (files("npusim") / "data" / "profile.html").read_text(encoding="utf-8")
    text = json.dumps({"report": data, "events": _events(timeline)}, separators=(",", ":"), allow_nan=False)
    return template.replace("/*DATA*/", text.replace("<", "\\u003c"))


def _events(timeline: Timeline) -> dict[str, Any]:
    work, first = timeline.workload, timeline.first_ps
    moved = {"r": timeline.dram_bytes("read"), "w": timeline.dram_bytes("write")}
    starts, ends, layers = layer_runs(timeline)
    edges, gbps = dram_gbps_over_time(timeline, min(POINTS, max(work.num_commands, 10)))
    times, live = _thinned(*lmem_live_bytes(timeline))
    way = np.where(moved["r"] > 0, "r", np.where(moved["w"] > 0, "w", "m"))
    return {
        "end_ns": max(timeline.ps / _PS_PER_NS, 1),
        "names": [kind.mnemonic for kind in INSTRUCTIONS],
        "layers": {"start": _ns(starts, first), "end": _ns(ends, first), "layer": layers.tolist()},
        "tiu": _track(timeline, TIU, work.tiu.kind, work.tiu.macs),
        "tdma": _track(timeline, TDMA, work.tdma.kind, moved["r"] + moved["w"]) | {"way": way.tolist()},
        "dram": {"time": _ns(edges, first), "gbps": np.round(gbps, 3).tolist()},
        "lmem": {"time": _ns(times, first), "bytes": live.tolist()},
    }


def _track(timeline: Timeline, engine: int, kind: np.ndarray, amount: np.ndarray) -> dict[str, list[Any]]:
    work = timeline.workload
    times = {
        "start": _ns(timeline.start_ps[engine], timeline.first_ps),
        "end": _ns(timeline.end_ps[engine], timeline.first_ps),
    }
    labels = {"kind": kind, "layer": work.layer[engine], "index": work.index[engine], "amount": amount}
    return times | {name: values.tolist() for name, values in labels.items()}


def _ns(times_ps: np.ndarray, first: int) -> list[float]:
    return np.round((times_ps - first) / _PS_PER_NS, 1).tolist()


def _thinned(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points of a curve of steps, each the highest of those that it stands for."""
    step = -(-len(times) // POINTS)
    if step <= 1:
        return times, values
    first = np.arange(0, len(times), step)
    return times[first], np.maximum.reduceat(values, first)

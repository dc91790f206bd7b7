"""A timeline in Chrome's trace event format, which Perfetto and chrome://tracing open.

Tracks: layers, TIU, TDMA. Counters: DRAM bandwidth, LMEM in use. Times are microseconds ("Trace Event Format", Google
2016)."""

from __future__ import annotations

from typing import Any

import numpy as np

from npusim.insn import INSTRUCTIONS
from npusim.profile.attribution import layer_runs
from npusim.profile.pressure import dram_gbps_over_time, lmem_live_bytes
from npusim.timing.timeline import TDMA, TIU, Timeline

PID = 1
LAYERS, TIU_TRACK, TDMA_TRACK = 1, 2, 3
DRAM_BINS = 1000
_PS_PER_US = 1e6


def trace_of(timeline: Timeline, name: str) -> dict[str, Any]:
    """The whole trace, JSON-ready. `name` is what is profiled."""
    events = [_meta("process_name", 0, f"{name} on {timeline.board.title}")]
    for track, title in ((LAYERS, "layers"), (TIU_TRACK, "TIU"), (TDMA_TRACK, "TDMA")):
        events += [_meta("thread_name", track, title), _meta("thread_sort_index", track, track, "sort_index")]
    runs = zip(*(column.tolist() for column in layer_runs(timeline)), strict=True)
    events += [_slice(LAYERS, f"layer {layer}", "layer", start, end, {}) for start, end, layer in runs]
    events += _commands(timeline, TIU, TIU_TRACK) + _commands(timeline, TDMA, TDMA_TRACK)
    edges, gbps = dram_gbps_over_time(timeline, DRAM_BINS)
    events += [
        _counter("DRAM", time, "GB/s", round(value, 4))
        for time, value in zip(edges.tolist(), gbps.tolist(), strict=False)
    ]
    times, live = lmem_live_bytes(timeline)
    events += [
        _counter("LMEM", time, "bytes", value) for time, value in zip(times.tolist(), live.tolist(), strict=True)
    ]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {"tpu_mhz": timeline.board.tpu_mhz, "kind": "predicted"},
    }


def _commands(timeline: Timeline, engine: int, track: int) -> list[dict[str, Any]]:
    work = timeline.workload
    part = work.tiu if engine == TIU else work.tdma
    columns: dict[str, Any] = {"index": work.index[engine], "cmd_id": work.cmd_id[engine], "layer": work.layer[engine]}
    if engine == TIU:
        columns |= {"macs": work.tiu.macs, "elements": work.tiu.elements}
    else:
        columns |= {"read_bytes": timeline.dram_bytes("read"), "write_bytes": timeline.dram_bytes("write")}
    names = list(columns)
    table = np.stack(list(columns.values()), axis=1).tolist()
    rows = zip(
        part.kind.tolist(), timeline.start_ps[engine].tolist(), timeline.end_ps[engine].tolist(), table, strict=True
    )
    category = ("tiu", "tdma")[engine]
    events = []
    for kind, start, end, row in rows:
        events.append(
            _slice(track, INSTRUCTIONS[kind].mnemonic, category, start, end, dict(zip(names, row, strict=True)))
        )
    return events


def _slice(track: int, name: str, category: str, start_ps: int, end_ps: int, args: dict[str, Any]) -> dict[str, Any]:
    us, duration = start_ps / _PS_PER_US, (end_ps - start_ps) / _PS_PER_US
    return {"ph": "X", "pid": PID, "tid": track, "name": name, "cat": category, "ts": us, "dur": duration, "args": args}


def _counter(name: str, time_ps: float, unit: str, value: float) -> dict[str, Any]:
    return {"ph": "C", "pid": PID, "name": name, "ts": time_ps / _PS_PER_US, "args": {unit: value}}


def _meta(what: str, track: int, value: Any, key: str = "name") -> dict[str, Any]:
    return {"ph": "M", "pid": PID, "tid": track, "name": what, "args": {key: value}}

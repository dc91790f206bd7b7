"""A profile in Chrome's trace event format ("Trace Event Format", Google 2016), for Perfetto and chrome://tracing.

Tracks: layers, TIU, TDMA. Counters: DRAM bandwidth, LMEM in use. Times are in microseconds. There is an event for every
command, so each track's events are written with one template, which is fast."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npusim.insn import INSTRUCTIONS
from npusim.profile.profile import Profile
from npusim.profile.report import host_data
from npusim.timing.timeline import TDMA, TIU

PID = 1
LAYERS, TIU_TRACK, TDMA_TRACK = 1, 2, 3
_PS_PER_US = 1e6


def trace_text(profile: Profile) -> str:
    """The whole trace as JSON text."""
    other = {"tpu_mhz": profile.timeline.board.tpu_mhz, "kind": "predicted"}
    other |= {key: value for key, value in host_data(profile).items() if key != "cpu_routines"}
    return f'{{"traceEvents":[{",".join(_events(profile))}],"displayTimeUnit":"ns","otherData":{_json(other)}}}'


def _events(profile: Profile) -> Iterator[str]:
    timeline = profile.timeline
    work = timeline.workload
    yield _meta("process_name", 0, "name", f"{profile.name} on {timeline.board.title}")
    for track, title in ((LAYERS, "layers"), (TIU_TRACK, "TIU"), (TDMA_TRACK, "TDMA")):
        yield _meta("thread_name", track, "name", title)
        yield _meta("thread_sort_index", track, "sort_index", track)
    runs = profile.layer_runs
    tensors = {int(share.name): share.tensor for share in profile.layers}
    shown = {layer: _text(f"layer {layer}{tensor and f' for {tensor}'}") for layer, tensor in tensors.items()}
    names = [shown[layer] for layer in runs.layer.tolist()]
    yield from _slices(LAYERS, "layer", names, (runs.start_ps, runs.end_ps), {})
    for engine, track, category in ((TIU, TIU_TRACK, "tiu"), (TDMA, TDMA_TRACK, "tdma")):
        arguments = {"index": work.index[engine], "cmd_id": work.cmd_id[engine], "layer": work.layer[engine]}
        if engine == TIU:
            arguments |= {"macs": work.tiu.macs, "elements": work.tiu.elements}
        else:
            arguments |= {"read_bytes": timeline.dram_bytes("read"), "write_bytes": timeline.dram_bytes("write")}
        kinds = (work.tiu if engine == TIU else work.tdma).kind.tolist()
        names = [INSTRUCTIONS[kind].mnemonic for kind in kinds]
        yield from _slices(track, category, names, (timeline.start_ps[engine], timeline.end_ps[engine]), arguments)
    yield from _counter("DRAM", profile.dram.edges_ps[:-1], "GB/s", np.round(profile.dram.gbps, 4))
    yield from _counter("LMEM", profile.lmem.times_ps, "bytes", profile.lmem.num_bytes)


def _slices(
    track: int,
    category: str,
    names: Sequence[str],
    times_ps: tuple[NDArray[np.int64], NDArray[np.int64]],
    arguments: dict[str, NDArray[np.int64]],
) -> Iterator[str]:
    """One event for each entry of the columns. `names` and `category` are already escaped for JSON."""
    start, end = times_ps
    shown = ",".join(f'"{name}":%d' for name in arguments)
    template = (
        f'{{"ph":"X","pid":{PID},"tid":{track},"name":"%s","cat":"{category}","ts":%r,"dur":%r,"args":{{{shown}}}}}'
    )
    times = (start / _PS_PER_US).tolist(), ((end - start) / _PS_PER_US).tolist()
    columns = (column.tolist() for column in arguments.values())
    return map(template.__mod__, zip(names, *times, *columns, strict=True))


def _counter(name: str, times_ps: NDArray[Any], unit: str, values: NDArray[Any]) -> Iterator[str]:
    template = f'{{"ph":"C","pid":{PID},"name":"{name}","ts":%r,"args":{{"{unit}":%r}}}}'
    return map(template.__mod__, zip((times_ps / _PS_PER_US).tolist(), values.tolist(), strict=True))


def _meta(what: str, track: int, key: str, value: str | int) -> str:
    return _json({"ph": "M", "pid": PID, "tid": track, "name": what, "args": {key: value}})


def _text(text: str) -> str:
    return json.dumps(text)[1:-1]


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)

"""A profile as JSON-ready data, with a tag for every figure. Except for those of the host, all times are the TPU's.

Tags: an `exact` figure follows from the descriptors alone, a `modelled` one from a description of the hardware that was
not fitted, a `calibrated` one from constants that were fitted to measurements."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from npusim.profile.gmem import RegionTraffic
from npusim.profile.profile import Profile
from npusim.profile.shares import TimeShare
from npusim.timing.timeline import PS_PER_MS

TAGS = {
    "exact": ("macs", "lmem_peak_bytes", "num_commands", "num_tiu", "num_tdma", "gmem"),
    "modelled": (
        "dram_read_bytes",
        "dram_write_bytes",
        "lmem_live_peak_bytes",
        "roofline",
        "cpu_ms",
        "cpu_routines",
        "runtime_ms",
        "total_ms",
    ),
    "calibrated": (
        "ms",
        "cycles",
        "tiu_busy",
        "tdma_busy",
        "overlap",
        "dram_gbps",
        "mac_utilisation",
        "other_clock",
        "tensors",
        "layers",
        "instructions",
        "bound",
    ),
}
"""The figures of the report by tag. DRAM bytes are exact if nothing is compressed."""
TAG_OF = {figure: tag for tag, figures in TAGS.items() for figure in figures}


def report_data(profile: Profile) -> dict[str, Any]:
    """What `npusim profile --json` prints."""
    timeline, roof = profile.timeline, profile.roofline
    work, board = timeline.workload, timeline.board
    return {
        "name": profile.name,
        "chip": work.chip.name,
        "board": board.name,
        "board_title": board.title,
        "tpu_mhz": board.tpu_mhz,
        "dram_peak_gbps": board.peak_gbps,
        "ms": timeline.ms,
        **host_data(profile),
        "other_clock": _other_clock(profile),
        "cycles": round(timeline.cycles),
        "tiu_busy": timeline.tiu_busy,
        "tdma_busy": timeline.tdma_busy,
        "overlap": timeline.overlap,
        "idle": profile.idle,
        "bound": profile.bound,
        "dram_read_bytes": timeline.dram_read_bytes,
        "dram_write_bytes": timeline.dram_write_bytes,
        "dram_gbps": timeline.dram_gbps,
        "macs": work.macs,
        "mac_utilisation": timeline.mac_utilisation,
        "lmem_peak_bytes": timeline.lmem_peak_bytes,
        "lmem_live_peak_bytes": profile.lmem.peak_bytes,
        "lmem_bytes": work.chip.lmem_total_bytes,
        "num_commands": work.num_commands,
        "num_tiu": len(work.tiu),
        "num_tdma": len(work.tdma),
        "roofline": asdict(roof) | {"ridge": roof.ridge, "roof_macs_per_s": roof.roof_macs_per_s},
        "gmem": {region.name: _region(region) for region in profile.gmem},
        "tensors": [{"tensor": share.name} | _share(share) for share in profile.tensors],
        "layers": [{"layer": int(s.name), "tensor": s.tensor} | _share(s) for s in profile.layers],
        "instructions": [{"mnemonic": share.name} | _share(share) for share in profile.instructions],
        "tags": TAG_OF,
    }


def host_data(profile: Profile) -> dict[str, Any]:
    """The report's figures about a whole forward and its parts beside the TPU's time; None: not known."""
    routines = profile.host.routines
    return {
        "total_ms": profile.total_ms,
        "cpu_ms": _ms(profile.host.cpu_ps),
        "cpu_routines": [{"function": r.function, "outputs": list(r.outputs), "ms": _ms(r.ps)} for r in routines],
        "runtime_ms": _ms(profile.host.runtime_ps),
    }


def _ms(ps: int | None) -> float | None:
    return None if ps is None else ps / PS_PER_MS


def _other_clock(profile: Profile) -> dict[str, float] | None:
    other = profile.other_clock
    return None if other is None else {"tpu_mhz": other.board.tpu_mhz, "ms": other.ms}


def _region(region: RegionTraffic) -> dict[str, int]:
    known = {"read_bytes": region.read_bytes, "write_bytes": region.write_bytes, "bytes": region.num_bytes}
    return {name: count for name, count in known.items() if count is not None}


def _share(share: TimeShare) -> dict[str, Any]:
    names = ("ms", "share", "tiu_ms", "tdma_ms", "macs", "dram_bytes")
    times = {"start_ms": share.start_ps / PS_PER_MS, "end_ms": share.end_ps / PS_PER_MS}
    return {"count": share.num_commands} | {name: getattr(share, name) for name in names} | times

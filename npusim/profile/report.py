"""Everything that `npusim profile` tells of a timeline, as JSON-ready data with a tag on every figure.

Tags: `exact` follows from the descriptors alone; `modelled` from a description of the hardware that was not fitted;
`calibrated` from constants that were fitted to measurements."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from npusim.isa.regs import tdma_columns
from npusim.loader.cvimodel_types import Cvimodel, SectionType
from npusim.profile.attribution import Share, instruction_shares, layer_shares, pieces_of
from npusim.profile.pressure import lmem_live_bytes
from npusim.program.cmdbuf import Cmdbuf
from npusim.runtime.frame import FRAME_ALIGNMENT, tensor_bytes
from npusim.runtime.memory_map import PRIVATE, SHARED, WEIGHT, split_offset
from npusim.timing.timeline import PS_PER_MS, Timeline

TAGS = {
    "exact": ("macs", "lmem_peak_bytes", "num_commands", "num_tiu", "num_tdma", "gmem"),
    "modelled": ("dram_read_bytes", "dram_write_bytes", "lmem_live_peak_bytes", "roofline"),
    "calibrated": (
        "ms",
        "cycles",
        "tiu_busy",
        "tdma_busy",
        "overlap",
        "dram_gbps",
        "mac_utilisation",
        "layers",
        "instructions",
        "bound",
    ),
}
"""Which figure of the report is of which kind. DRAM bytes are exact where nothing is compressed."""

REGIONS = {SHARED: "shared", WEIGHT: "weights", PRIVATE: "private"}


@dataclass(frozen=True)
class Roofline:
    """Where a program stands between the two roofs of its board."""

    macs_per_byte: float
    macs_per_s: float
    peak_macs_per_s: float
    """int8 convolution; bf16 and other operations have lower roofs."""
    peak_bytes_per_s: float
    bf16_peak_macs_per_s: float

    @property
    def ridge(self) -> float:
        """MACs a byte from which on the TIU is the roof."""
        return self.peak_macs_per_s / self.peak_bytes_per_s

    @property
    def roof_macs_per_s(self) -> float:
        """What the board allows at this intensity."""
        return min(self.peak_macs_per_s, self.macs_per_byte * self.peak_bytes_per_s)


def roofline_of(timeline: Timeline) -> Roofline:
    """The roofline position of a whole program."""
    board, seconds = timeline.board, timeline.ps * 1e-12
    moved = timeline.dram_read_bytes + timeline.dram_write_bytes
    macs = timeline.workload.macs
    chip = board.chip
    bf16_peak = chip.num_lanes * chip.eu_num // 2 * board.tpu_mhz * 1e6
    return Roofline(
        macs / max(moved, 1), macs / max(seconds, 1e-12), board.peak_macs_per_s, board.peak_gbps * 1e9, float(bf16_peak)
    )


def profile_data(
    timeline: Timeline, cmdbufs: list[Cmdbuf], name: str, model: Cvimodel | None = None, program: int = 0
) -> dict[str, Any]:
    """The report of `timeline`; `model` adds the GMEM that its program needs."""
    pieces, work, board = pieces_of(timeline), timeline.workload, timeline.board
    _, live = lmem_live_bytes(timeline)
    roof = roofline_of(timeline)
    layers = [_row(share, timeline, "layer") for share in layer_shares(timeline, pieces)]
    return {
        "name": name,
        "chip": work.chip.name,
        "board": board.name,
        "board_title": board.title,
        "tpu_mhz": board.tpu_mhz,
        "dram_peak_gbps": board.peak_gbps,
        "ms": timeline.ms,
        "cycles": round(timeline.cycles),
        "tiu_busy": timeline.tiu_busy,
        "tdma_busy": timeline.tdma_busy,
        "overlap": timeline.overlap,
        "idle": 1 - int(pieces.ps.sum()) / max(timeline.ps, 1),
        "bound": bound_of(timeline),
        "dram_read_bytes": timeline.dram_read_bytes,
        "dram_write_bytes": timeline.dram_write_bytes,
        "dram_gbps": timeline.dram_gbps,
        "macs": work.macs,
        "mac_utilisation": timeline.mac_utilisation,
        "lmem_peak_bytes": timeline.lmem_peak_bytes,
        "lmem_live_peak_bytes": int(live.max(initial=0)),
        "lmem_bytes": work.chip.lmem_total_bytes,
        "num_commands": work.num_commands,
        "num_tiu": len(work.tiu),
        "num_tdma": len(work.tdma),
        "roofline": asdict(roof) | {"ridge": roof.ridge, "roof_macs_per_s": roof.roof_macs_per_s},
        "gmem": gmem_data(timeline, cmdbufs, model, program),
        "layers": layers,
        "instructions": [_row(share, timeline, "mnemonic") for share in instruction_shares(timeline, pieces)],
        "tags": {figure: tag for tag, figures in TAGS.items() for figure in figures},
    }


def bound_of(timeline: Timeline) -> str:
    """Which engine the program waits for: "TIU", "TDMA", or "latency" where neither works for half of the time."""
    share, name = max((timeline.tiu_busy, "TIU"), (timeline.tdma_busy, "TDMA"))
    return name if share >= 0.5 else "latency"


def gmem_data(timeline: Timeline, cmdbufs: list[Cmdbuf], model: Cvimodel | None, program: int) -> dict[str, Any]:
    """By region: bytes that the program moves there, and for a .cvimodel how large it is. `tensors` are activations
    before reuse."""
    columns = [tdma_columns(c.chip, c.tdma) for c in cmdbufs]
    sides = {}
    for side, key in (("read", "src_base_reg_sel"), ("write", "dst_base_reg_sel")):
        base = np.concatenate([c[key] for c in columns])
        region = np.minimum(base, 3)
        sides[side] = np.bincount(region, weights=timeline.dram_bytes(side), minlength=4).astype(np.int64).tolist()
    names = [REGIONS.get(i, "io") for i in range(4)]
    out: dict[str, Any] = {
        name: {"read_bytes": sides["read"][i], "write_bytes": sides["write"][i]} for i, name in enumerate(names)
    }
    if model is not None:
        sizes = _sizes(model, program)
        for name in names:
            out[name]["bytes"] = sizes[name]
        out["activations"] = {"bytes": sizes["activations"]}
    return out


def _sizes(model: Cvimodel, program: int) -> dict[str, int]:
    parts = model.programs[program]
    sizes = {
        "weights": sum(s.num_bytes for s in model.sections if s.kind == SectionType.WEIGHT),
        "shared": parts.neuron_bytes or parts.shared_bytes,
        "private": 0 if parts.neuron_bytes else parts.private_bytes,
        "io": 0,
        "activations": 0,
    }
    for tensor in parts.tensors:
        if tensor.offset < 0:
            continue
        base, _ = split_offset(tensor.offset)
        sizes["activations" if base in REGIONS else "io"] += tensor_bytes(tensor, FRAME_ALIGNMENT[model.chip.name])
    return sizes


def _row(share: Share, timeline: Timeline, key: str) -> dict[str, Any]:
    total = max(timeline.ps, 1)
    return {
        key: int(share.name) if key == "layer" else share.name,
        "count": share.num_commands,
        "ms": share.ps / PS_PER_MS,
        "share": share.ps / total,
        "tiu_ms": share.tiu_ps / PS_PER_MS,
        "tdma_ms": share.tdma_ps / PS_PER_MS,
        "macs": share.macs,
        "dram_bytes": share.dram_bytes,
        "start_ms": (share.first_ps - timeline.first_ps) / PS_PER_MS,
        "end_ms": (share.last_ps - timeline.first_ps) / PS_PER_MS,
    }

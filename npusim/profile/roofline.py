"""The roofline model: a program's speed beside the two limits of its board, arithmetic and DRAM bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.timing.timeline import Timeline


@dataclass(frozen=True)
class Roofline:
    """A program's arithmetic intensity (MACs for each byte of DRAM) and speed, and the limits of its board."""

    macs_per_byte: float
    macs_per_s: float
    peak_macs_per_s: float
    """Limit for int8 convolution. bf16 and other operations have lower limits."""
    peak_bytes_per_s: float
    bf16_peak_macs_per_s: float

    @property
    def ridge(self) -> float:
        """MACs for each byte above which the TIU is the limit, below which DRAM is."""
        return self.peak_macs_per_s / self.peak_bytes_per_s

    @property
    def roof_macs_per_s(self) -> float:
        """The board's limit at this intensity."""
        return min(self.peak_macs_per_s, self.macs_per_byte * self.peak_bytes_per_s)


def roofline_of(timeline: Timeline) -> Roofline:
    """The roofline position of a whole program."""
    board, chip, macs = timeline.board, timeline.board.chip, timeline.workload.macs
    return Roofline(
        macs_per_byte=macs / max(timeline.dram_read_bytes + timeline.dram_write_bytes, 1),
        macs_per_s=macs / max(timeline.ps * 1e-12, 1e-12),
        peak_macs_per_s=board.peak_macs_per_s,
        peak_bytes_per_s=board.peak_gbps * 1e9,
        bf16_peak_macs_per_s=float(chip.num_lanes * chip.eu_num // 2 * board.tpu_mhz * 1e6),
    )

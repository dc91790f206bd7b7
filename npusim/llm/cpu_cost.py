"""How long the board's CPU takes for its part of a step, in microseconds.

Source: measurements on a CV1800B board (C906) published in the YorHamodelnumbernine LLM-deploy repository, SUMMARY.md
and REPORT_*. Submitting a prebuilt command buffer and waiting for it takes 0.115 ms, or 0.140 to 0.145 ms with
invalidating the cache; invalidating 256 KiB takes 0.020 to 0.052 ms; ION memory is written at 753 MB/s and read at
about 2,200 MB/s. Costs without a published figure are estimated in CPU cycles, and are marked so."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.board import Host

_PUBLISHED_MHZ = 1000
"""Clock of the CPU on which submits were measured."""


@dataclass(frozen=True)
class CpuCosts:
    """Costs on a board's host, with constants that `Host` does not have. Every method gives microseconds."""

    host: Host
    invalidate_us_per_kib: float = 36 / 256
    """Mean of 0.020 and 0.052 ms for 256 KiB."""
    invalidate_call_us: float = 2.0
    """Estimate: one ioctl."""
    cycles_per_patch: float = 50.0
    """Estimate: load, add and store of an address in a cached buffer, with the miss."""
    cycles_per_compare: float = 6.0
    """Estimate for an in-order core without vector code: load, compare, branch."""

    @property
    def mhz(self) -> float:
        return self.host.cpu_mhz or _PUBLISHED_MHZ

    def invalidate(self, num_bytes: float) -> float:
        """Makes what the chip wrote visible to the CPU, or what the CPU wrote visible to the chip."""
        return self.invalidate_call_us + self.invalidate_us_per_kib * num_bytes / 1024 if num_bytes else 0.0

    def read(self, num_bytes: float) -> float:
        return num_bytes / self.host.read_bytes_per_s * 1e6

    def copy(self, num_bytes: float) -> float:
        return self.read(num_bytes) + num_bytes / self.host.copy_bytes_per_s * 1e6

    def patches(self, count: int) -> float:
        """Sets `count` addresses in a command buffer and flushes their descriptors (64 bytes each)."""
        return count * self.cycles_per_patch / self.mhz + self.invalidate(count * 64)

    def compares(self, count: float) -> float:
        return count * self.cycles_per_compare / self.mhz

    def argmax(self, num_logits: int, itemsize: int = 2) -> float:
        """Chooses the likeliest token, after invalidating the logits."""
        num_bytes = num_logits * itemsize
        return self.invalidate(num_bytes) + self.read(num_bytes) + self.compares(num_logits)

    def choose_pages(self, rows: int, group: int, blocks: int, slots: int) -> float:
        """Chooses `slots` pages for each of `rows` KV heads: the maximum over `group` query heads of `blocks` float32
        scores, then a top-k with a heap."""
        num_bytes = rows * group * blocks * 4
        per_row = self.compares(group * blocks + blocks + slots * max(1, slots.bit_length()))
        return self.invalidate(num_bytes) + self.read(num_bytes) + rows * per_row

    def embed(self, row_bytes: int) -> float:
        """Copies one row of the embedding into the io region."""
        return self.copy(row_bytes) + self.invalidate(row_bytes)

"""What the board's CPU does around the chip, in microseconds.

Source: measurements on a CV1800B board (C906) published in the YorHamodelnumbernine LLM-deploy repository, SUMMARY.md
and REPORT_*: a prebuilt command buffer is submitted and waited for in 0.115 ms, in 0.140 to 0.145 ms with the cache
invalidated; 256 KiB are invalidated in 0.020 to 0.052 ms; ION memory is written at 753 MB/s and read at about 2,200
MB/s. What has no published figure is counted in CPU cycles and said to be an estimate."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.board import Host

_PUBLISHED_MHZ = 1000
"""Clock of the CPU on which submits were measured."""


@dataclass(frozen=True)
class CpuCosts:
    """A board's host, and the constants that `Host` does not hold."""

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

    def submit(self) -> float:
        """Starting a command buffer and waiting for its end, without the chip's own time."""
        return self.host.submit_us

    def invalidate(self, num_bytes: float) -> float:
        """Making what the chip wrote visible to the CPU, or what the CPU wrote to the chip."""
        return self.invalidate_call_us + self.invalidate_us_per_kib * num_bytes / 1024 if num_bytes else 0.0

    def read(self, num_bytes: float) -> float:
        return num_bytes / self.host.read_bytes_per_s * 1e6

    def copy(self, num_bytes: float) -> float:
        return self.read(num_bytes) + num_bytes / self.host.copy_bytes_per_s * 1e6

    def patches(self, count: int) -> float:
        """Setting `count` addresses of a command buffer and flushing their descriptors (64 bytes each)."""
        return count * self.cycles_per_patch / self.mhz + self.invalidate(count * 64)

    def compares(self, count: float) -> float:
        return count * self.cycles_per_compare / self.mhz

    def argmax(self, num_logits: int, itemsize: int = 2) -> float:
        """Greedy choice of a token, with the invalidation in front."""
        num_bytes = num_logits * itemsize
        return self.invalidate(num_bytes) + self.read(num_bytes) + self.compares(num_logits)

    def choose_pages(self, rows: int, group: int, blocks: int, slots: int) -> float:
        """Group maximum and top-k (a heap of `slots`) of `rows` lists of `blocks` float32 scores."""
        num_bytes = rows * group * blocks * 4
        per_row = self.compares(group * blocks + blocks + slots * max(1, slots.bit_length()))
        return self.invalidate(num_bytes) + self.read(num_bytes) + rows * per_row

    def embed(self, row_bytes: int) -> float:
        """One row of the embedding into the io region."""
        return self.copy(row_bytes) + self.invalidate(row_bytes)

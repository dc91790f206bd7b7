"""What the board's CPU does around the chip, in microseconds.

Source: measurements on a CV1800B board (C906 at 1 GHz) published in the YorHamodelnumbernine LLM-deploy repository, SUMMARY.md and REPORT_*:
a prebuilt command buffer runs in 0.115 ms, of which the chip's own part in their case is small, 0.140 to 0.145 ms with the cache
invalidated; 256 KiB are invalidated in 0.020 to 0.052 ms; ION memory is written at 753 MB/s and read at about 2,200 MB/s; an operation
is built into a command buffer in 1.9 us. What has no published figure (comparisons of a top-k, of an argmax) is counted in CPU cycles
and said to be an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CpuCosts:
    """Constants of one CPU. Those from the source scale with 1 / clock, the memory figures do not."""

    clock_mhz: int = 1000
    submit_us: float = 115.0
    """ioctl, thread wake-up, engine reset and interrupt of one prebuilt command buffer."""
    invalidate_us_per_kib: float = 0.036 / 256 * 1000
    """Mean of 0.020 and 0.052 ms for 256 KiB."""
    invalidate_call_us: float = 2.0
    """Estimate: one ioctl."""
    ion_write_mb_s: float = 753.0
    ion_read_mb_s: float = 2200.0
    patch_us: float = 0.05
    """Estimate: load, add and store of an address in a cached buffer, some 50 cycles with the miss."""
    cycles_per_compare: float = 6.0
    """Estimate for an in-order core without vector code: load, compare, branch."""

    def submit(self) -> float:
        return self.submit_us * 1000 / self.clock_mhz

    def invalidate(self, num_bytes: int) -> float:
        """Make what the chip wrote visible, or what the CPU wrote reach the chip."""
        return self.invalidate_call_us + self.invalidate_us_per_kib * num_bytes / 1024 if num_bytes else 0.0

    def read(self, num_bytes: int) -> float:
        return num_bytes / self.ion_read_mb_s

    def write(self, num_bytes: int) -> float:
        return num_bytes / self.ion_write_mb_s

    def copy(self, num_bytes: int) -> float:
        return self.read(num_bytes) + self.write(num_bytes)

    def patches(self, count: int) -> float:
        """Setting `count` addresses of a command buffer and flushing their descriptors (64 bytes each)."""
        return count * self.patch_us * 1000 / self.clock_mhz + self.invalidate(count * 64)

    def compares(self, count: float) -> float:
        return count * self.cycles_per_compare / self.clock_mhz

    def argmax(self, count: int, itemsize: int = 2) -> float:
        """Greedy choice of a token among `count` logits, with the invalidation in front."""
        return self.invalidate(count * itemsize) + self.read(count * itemsize) + self.compares(count)

    def choose_pages(self, rows: int, group: int, blocks: int, slots: int) -> float:
        """Group maximum and top-k by a heap of `slots` of `rows` lists of `blocks` float32 scores."""
        sift = max(1.0, slots.bit_length())
        per_row = self.compares(group * blocks) + self.compares(blocks) + self.compares(slots * sift)
        num_bytes = rows * group * blocks * 4
        return self.invalidate(num_bytes) + self.read(num_bytes) + rows * per_row

    def embed(self, row_bytes: int) -> float:
        """One row of the embedding into the io region."""
        return self.copy(row_bytes) + self.invalidate(row_bytes)
